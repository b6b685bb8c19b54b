// The names under which the window's preload script and the program talk.

export const connectChannel = 'platter:connect';
export const portChannel = 'platter:port';
export const callChannel = 'platter:call';
export const requestChannel = 'platter:request';

/** The global of the page, and the message with the port that the page gets from itself. */
export const shellGlobal = 'platterShell';
export const portMessage = 'platter:port';
/** The argument of the window's process that names the only origin the script works for. */
export const originArgument = '--platter-origin=';
