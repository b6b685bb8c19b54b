// Loading koffi, through which the calls go that Node lacks: only when one is needed, and not at all if PLATTER_NO_KOFFI is set.
import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';
import type * as koffiModule from 'koffi';

export type Koffi = typeof koffiModule;
/** A bound C function. Its result is what the declaration says; 64-bit integers come as numbers while they are exact. */
type Bound = (...args: unknown[]) => unknown;

/** The library, or null where it does not load (no prebuilt binary for this machine) or must not. */
export function loadKoffi(): Koffi | null {
  if (!['', '0'].includes(process.env.PLATTER_NO_KOFFI ?? '')) return null;
  try {
    return createRequire(import.meta.url)('koffi') as Koffi;
  } catch {
    return null;
  }
}

/** Functions of a C library, called by their declaration. */
export interface ForeignCalls {
  /** Calls a function that returns an integer; -1 with the error ENOSYS where the library lacks it. */
  call(declaration: string, ...args: unknown[]): number;
  /** Name of the errno that the last call left. */
  lastError(): string;
}

/** Binds functions of a library when they are first called. A function that the library lacks answers null. */
export class Library implements ForeignCalls {
  readonly koffi: Koffi;
  readonly #library: ReturnType<Koffi['load']>;
  readonly #bound = new Map<string, Bound | null>();

  /** `name` null: the libraries that the process has loaded already (the C library among them). */
  constructor(koffi: Koffi, name: string | null) {
    this.koffi = koffi;
    this.#library = koffi.load(name);
  }

  #find(declaration: string): Bound | null {
    const known = this.#bound.get(declaration);
    if (known !== undefined) return known;
    const bound = this.#bind(declaration);
    this.#bound.set(declaration, bound);
    return bound;
  }

  #bind(declaration: string): Bound | null {
    try {
      return this.#library.func(declaration) as Bound;
    } catch {
      return null;
    }
  }

  call(declaration: string, ...args: unknown[]): number {
    const bound = this.#find(declaration);
    if (bound === null) {
      this.koffi.errno(this.koffi.os.errno.ENOSYS ?? 0);
      return -1;
    }
    return Number(bound(...args));
  }

  lastError(): string {
    return getSystemErrorName(-this.koffi.errno());
  }
}

/** What Node throws for a failed system call: an error whose `code` is the errno's name. */
export function systemError(call: string, errno: string): Error {
  return Object.assign(new Error(`${errno}, ${call}`), { code: errno, syscall: call });
}
