// Under which name we run and which qemu-img we take after.

/** `7.2`: what Debian 12 ships; `10.0`: the words and keys since then. `PLATTER_QEMU_COMPAT`, default 10.0. */
export type Level = '7.2' | '10.0';

/** The name in front of every message. `PLATTER_PROGNAME`, default `platter`. */
export const programName: string = process.env.PLATTER_PROGNAME || 'platter';

/** True while we stand in for qemu-img itself: its words and nothing besides. */
export const actsAsQemuImg: boolean = programName === 'qemu-img';

export const level: Level = process.env.PLATTER_QEMU_COMPAT?.startsWith('7') === true ? '7.2' : '10.0';

/** True from 10.0 on. */
export const isLevel10: boolean = level === '10.0';
