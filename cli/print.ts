// What the command says: buffered text on stdout, lines with the program's name on stderr, faults with their place.
import fs from 'node:fs';
import { ImageError } from '../core/errors/image-error.ts';
import type { DetailRow } from '../core/errors/messages.ts';
import { actsAsQemuImg, isLevel10, programName } from './level.ts';

/** A message that ends the command: `NAME: text` on stderr. `cause`: the `ImageError` whose place and code are told with it. */
export class CommandError extends Error {
  readonly exitCode: number;

  constructor(text: string, options: { exitCode?: number; cause?: unknown } = {}) {
    super(text, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode ?? 1;
  }
}

/** A mistake in the arguments: the text, and where help is to be had. `command` null: before any command was named. */
export class UsageError extends Error {
  readonly command: string | null;

  constructor(text: string, command: string | null) {
    super(text);
    this.command = command;
  }
}

const flushAt = 64 * 1024;
let pending: string[] = [];
let pendingLength = 0;
let buffered = true;

/** Text for stdout. It goes out in large pieces, at the latest before anything is said on stderr and at the end. */
export function out(text: string): void {
  pending.push(text);
  pendingLength += text.length;
  if (pendingLength >= flushAt || !buffered) flushOut();
}

/** A line for stdout. */
export function outLine(line = ''): void {
  out(`${line}\n`);
}

/** Sends what `out` holds back. A reader that has gone ends the program quietly. */
export function flushOut(): void {
  if (pending.length === 0) return;
  const text = pending.join('');
  pending = [];
  pendingLength = 0;
  writeFully(1, text);
}

/** Text for stderr as it stands, after what stdout still holds. */
export function err(text: string): void {
  flushOut();
  writeFully(2, text);
}

/** `NAME: text` on stderr. */
export function complain(text: string): void {
  err(`${programName}: ${text}\n`);
}

/** `NAME: warning: text` on stderr. */
export function warn(text: string): void {
  complain(`warning: ${text}`);
}

/** A line on stdout that `-q` suppresses. */
export function quietLine(quiet: boolean, line: string): void {
  if (!quiet) outLine(line);
}

function writeFully(descriptor: number, text: string): void {
  const bytes = Buffer.from(text, 'utf8');
  let done = 0;
  while (done < bytes.length) {
    try {
      done += fs.writeSync(descriptor, bytes, done);
    } catch (error) {
      const errno = error instanceof Error && 'code' in error ? error.code : null;
      if (errno === 'EAGAIN') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
      else if (errno === 'EPIPE') process.exit(141);
      else if (descriptor === 1 && typeof errno === 'string') {
        buffered = true;
        complain(`standard output cannot be written: ${errno}`);
        process.exit(1);
      } else return; // stderr itself is gone: there is nobody left to tell
    }
  }
}

/**
 * Prints what ended a command and gives the exit code: usage mistakes with the pointer to the help, faults with their code and
 * place (not when we stand in for qemu-img), bugs as one line.
 */
export function reportFailure(error: unknown): number {
  if (error instanceof UsageError) {
    const who = isLevel10 && error.command !== null ? `${programName} ${error.command}` : programName;
    err(`${who}: ${error.message}\nTry '${who} --help' for more information${isLevel10 ? '.' : ''}\n`);
    return 1;
  }
  if (error instanceof CommandError) {
    complain(error.message + (error.cause instanceof ImageError ? place(error.cause) : ''));
    return error.exitCode;
  }
  if (error instanceof ImageError) {
    complain(openSentence(error) + place(error));
    return 1;
  }
  const text = error instanceof Error ? error.message : String(error);
  complain(
    `internal error: ${text} (this is a bug in ${programName}; please report it with the command that led here)`,
  );
  if (process.env.PLATTER_DEBUG === '1' && error instanceof Error) err(`${error.stack ?? ''}\n`);
  return 1;
}

/** The fault at the bottom of a chain of causes: the one that knows file, offset and field. */
export function rootFault(error: ImageError): ImageError {
  return error.cause instanceof ImageError ? rootFault(error.cause) : error;
}

/** ` [code at FILE+0xOFFSET field]` of the fault at the root; nothing when we stand in for qemu-img. */
export function place(error: ImageError): string {
  if (actsAsQemuImg) return '';
  const root = rootFault(error);
  const { file, offset, field } = root.where;
  const at = file === undefined ? '' : ` at ${file}${offset === undefined ? '' : `+0x${offset.toString(16)}`}`;
  return ` [${root.code}${at}${field === undefined ? '' : ` ${field}`}]`;
}

/**
 * What went wrong while an image was opened, in qemu-img's words: those of the fault, and around them the way down the chain
 * (`Could not open backing file: Could not open 'base.img': No such file or directory`).
 */
export function openSentence(error: ImageError): string {
  const file = error.where.file ?? String(error.facts.name ?? '');
  const inner = error.cause instanceof ImageError ? openSentence(error.cause) : null;
  if (error.code === 'gate/backing' && inner !== null) return `Could not open backing file: ${inner}`;
  if (error.code === 'info/layer' && inner !== null) return `Could not open '${error.facts.name}': ${inner}`;
  if (error.code === 'gate/refused') return `${error.message} (--follow-all opens it all the same)`;
  if (error.code === 'storage/open') return `Could not open '${file}': ${error.message}`;
  if (error.code === 'storage/directory') return `'file' driver requires '${file}' to be a regular file`;
  if (error.code === 'storage/locked') return lockedSentence(error, file);
  return error.message;
}

/** With the processes that hold the locks, where the host tells and we are not to speak as qemu-img does. */
function lockedSentence({ message, detail }: ImageError, file: string): string {
  const question = `${message}\nIs another process using the image [${file}]?`;
  if (actsAsQemuImg || !Array.isArray(detail.holders)) return question;
  const named = detail.holders.map(({ pid, command }: DetailRow) => `${command} (process ${pid})`);
  return `${question} It is in use by ${named.join(', ')}.`;
}

/** What `openImage` threw, as `Could not open 'NAME': …`; anything but an `ImageError` is thrown on. */
export function openFailure(name: string, error: unknown, exitCode = 1): CommandError {
  if (!(error instanceof ImageError)) throw error;
  return new CommandError(`Could not open '${name}': ${openSentence(error)}`, { exitCode, cause: error });
}
