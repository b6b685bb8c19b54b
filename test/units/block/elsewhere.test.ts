// The macOS and Windows hosts against stand-ins for their system calls: layouts and codes by the formulas of the headers. Not run on those systems here.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { DarwinCalls } from '../../../core/block/host/darwin.ts';
import type { ForeignCalls } from '../../../core/block/host/koffi.ts';
import { WindowsCalls } from '../../../core/block/host/windows.ts';
import { MiB, TiB } from '../../../core/block/units.ts';
import { coded } from './file-suite.ts';
import { scratchFolder } from './scratch.ts';

const folder = scratchFolder();

function fileOf(content: Uint8Array): number {
  const file = path.join(folder, `file-${Math.random()}`);
  fs.writeFileSync(file, content);
  return fs.openSync(file, 'r+');
}

/** A library whose functions are given by name. */
class StandIn implements ForeignCalls {
  errno = 'EINVAL';
  readonly #functions: Readonly<Record<string, (...args: never[]) => number>>;

  constructor(functions: Readonly<Record<string, (...args: never[]) => number>>) {
    this.#functions = functions;
  }

  call(declaration: string, ...args: unknown[]): number {
    const name = /(\w+)\(/.exec(declaration)?.[1] ?? '';
    const implementation = this.#functions[name];
    if (implementation === undefined) throw new Error(`no stand-in for ${name}`);
    return implementation(...(args as never[]));
  }

  lastError(): string {
    return this.errno;
  }
}

/** CTL_CODE of Microsoft's headers. */
function controlCode(device: number, call: number, method: number, access: number): number {
  return ((device << 16) | (access << 14) | (call << 2) | method) >>> 0;
}

const windowsCodes = {
  setSparse: controlCode(9, 49, 0, 0),
  setZeroData: controlCode(9, 50, 0, 2),
  queryAllocatedRanges: controlCode(9, 51, 3, 1),
  duplicateExtents: controlCode(9, 209, 0, 2),
  diskLength: controlCode(7, 0x17, 0, 1),
  diskGeometry: controlCode(7, 0, 0, 0),
};

interface Control {
  readonly handle: number;
  readonly code: number;
  readonly given: Buffer | null;
}

function windows(answer: (control: Control, out: Buffer) => { error?: number; returned?: number }): {
  calls: WindowsCalls;
  controls: Control[];
  locks: { flags: number; high: number }[];
  lockError: { value: number };
} {
  const controls: Control[] = [];
  const locks: { flags: number; high: number }[] = [];
  const lockError = { value: 0 };
  let last = 0;
  const kernel = new StandIn({
    DeviceIoControl: (
      handle: number,
      code: number,
      given: Buffer | null,
      _n: number,
      out: Buffer,
      _m: number,
      returned: Buffer,
    ) => {
      const control = { handle, code, given: given === null ? null : Buffer.from(given) };
      controls.push(control);
      const { error = 0, returned: count = 0 } = answer(control, out);
      returned.writeUInt32LE(count);
      last = error;
      return error === 0 ? 1 : 0;
    },
    LockFileEx: (_handle: number, flags: number, reserved: number, low: number, high: number, overlapped: Buffer) => {
      expect([reserved, low, high, overlapped.readUInt32LE(16), overlapped.length]).toEqual([0, 1, 0, 0, 32]);
      locks.push({ flags, high: overlapped.readUInt32LE(20) });
      last = lockError.value;
      return last === 0 ? 1 : 0;
    },
    SetFileInformationByHandle: (_handle: number, kind: number, information: Buffer, size: number) => {
      expect([kind, size]).toEqual([5, 8]);
      controls.push({ handle: 0, code: 0, given: Buffer.from(information) });
      return 1;
    },
    GetLastError: () => last,
  });
  const executable = new StandIn({ uv_get_osfhandle: (descriptor: number) => 1000 + descriptor });
  return { calls: new WindowsCalls(executable, kernel), controls, locks, lockError };
}

describe('Windows', () => {
  const numbers = (buffer: Buffer | null): number[] =>
    buffer === null ? [] : Array.from({ length: buffer.length / 8 }, (_, i) => Number(buffer.readBigInt64LE(i * 8)));

  it('reads extents from the allocated ranges', () => {
    const ranges: [number, number][] = [
      [0, 65536],
      [TiB, 131072],
    ];
    const { calls, controls } = windows(({ given }, out) => {
      const [start = 0, length = 0] = numbers(given);
      const found = ranges.find(([at, size]) => at + size > start && at < start + length);
      if (found === undefined) return { returned: 0 };
      const from = Math.max(found[0], start);
      out.writeBigInt64LE(BigInt(from), 0);
      out.writeBigInt64LE(BigInt(found[0] + found[1] - from), 8);
      return { error: 234, returned: 16 };
    });
    const size = TiB + 131072 + 100;
    expect(calls.extentAt(7, 4096, size)).toEqual({ kind: 'data', length: 61440 });
    expect(calls.extentAt(7, 65536, size)).toEqual({ kind: 'hole', length: TiB - 65536 });
    expect(calls.extentAt(7, TiB + 131072, size)).toEqual({ kind: 'hole', length: 100 });
    expect(controls.every(({ code, handle }) => code === windowsCodes.queryAllocatedRanges && handle === 1007)).toBe(
      true,
    );
  });

  it('cannot tell on a file system without sparse files', () => {
    const { calls } = windows(() => ({ error: 1 }));
    expect(calls.extentAt(7, 0, 100)).toBeNull();
    expect(calls.punchHole(7, 0, 100)).toBe(false);
    expect(calls.cloneRange(7, 0, 8, 0, 4096)).toBe(false);
  });

  it('punches by the first byte and the first beyond, after making the file sparse', () => {
    const { calls, controls } = windows(() => ({}));
    expect(calls.punchHole(7, TiB, 4096)).toBe(true);
    expect(controls.map(({ code, given }) => [code, numbers(given)])).toEqual([
      [windowsCodes.setSparse, []],
      [windowsCodes.setZeroData, [TiB, TiB + 4096]],
    ]);
  });

  it('clones by handle, source offset, target offset, length', () => {
    const { calls, controls } = windows(() => ({}));
    expect(calls.cloneRange(7, 65536, 8, 131072, MiB)).toBe(true);
    expect(controls).toEqual([
      { handle: 1008, code: windowsCodes.duplicateExtents, given: expect.any(Buffer) as Buffer },
    ]);
    expect(numbers(controls[0]?.given ?? null)).toEqual([1007, 65536, 131072, MiB]);
  });

  it('says that the disk is full', () => {
    const { calls } = windows(() => ({ error: 112 }));
    expect(() => calls.punchHole(7, 0, 100)).toThrow(expect.objectContaining({ code: 'ENOSPC' }) as Error);
    const broken = windows(() => ({ error: 1117 })).calls;
    expect(() => broken.punchHole(7, 0, 100)).toThrow(expect.objectContaining({ code: 'EIO' }) as Error);
  });

  it('reserves space for what is appended, and leaves what lies inside to writing', () => {
    const { calls, controls } = windows(() => ({}));
    const descriptor = fileOf(coded(0, 4096));
    expect(calls.allocate(descriptor, 0, 8192)).toBe(false);
    expect(calls.allocate(descriptor, 4096, 8192)).toBe(true);
    expect(numbers(controls[0]?.given ?? null)).toEqual([12288]);
    expect(fs.fstatSync(descriptor).size).toBe(12288);
    fs.closeSync(descriptor);
  });

  it('locks far beyond the file, shared for readers and alone for a writer', () => {
    const { calls, locks, lockError } = windows(() => ({}));
    for (const mode of ['read', 'write', 'shared-any', 'none'] as const) expect(calls.lock(7, mode)).toBeNull();
    expect(locks).toEqual([
      { flags: 1, high: 0x40000000 },
      { flags: 3, high: 0x40000000 },
    ]);
    lockError.value = 33;
    expect(calls.lock(7, 'read')).toEqual({ permission: 'write', exclusive: false });
    expect(calls.lock(7, 'write')).toEqual({ permission: 'write', exclusive: true });
    lockError.value = 50;
    expect(calls.lock(7, 'write')).toBeNull();
  });

  it('asks a disk for its size and sectors', () => {
    const { calls } = windows(({ code }, out) => {
      if (code === windowsCodes.diskLength) out.writeBigInt64LE(BigInt(3 * TiB));
      else if (code === windowsCodes.diskGeometry) out.writeUInt32LE(4096, 20);
      else return { error: 1 };
      return {};
    });
    expect([calls.deviceSize(7), calls.deviceSectorSize(7)]).toEqual([3 * TiB, 4096]);
  });
});

/** _IOR of BSD's headers. */
function readRequest(group: string, number: number, size: number): number {
  return 0x40000000 + (size << 16) + (group.charCodeAt(0) << 8) + number;
}

describe('macOS', () => {
  it('seeks data and holes by its own numbers', () => {
    const asked: number[] = [];
    const library = new StandIn({
      lseek: (_fd: number, offset: number, whence: number) => {
        asked.push(whence);
        if (whence === 4) return offset < 8192 ? Math.max(offset, 4096) : -1;
        return 8192;
      },
    });
    const calls = new DarwinCalls(library);
    expect(calls.extentAt(3, 0, 16384)).toEqual({ kind: 'hole', length: 4096 });
    expect(calls.extentAt(3, 5000, 16384)).toEqual({ kind: 'data', length: 3192 });
    library.errno = 'ENXIO';
    expect(calls.extentAt(3, 8192, 16384)).toEqual({ kind: 'hole', length: 8192 });
    library.errno = 'ENOTTY';
    expect(calls.extentAt(3, 8192, 16384)).toBeNull();
    expect(new Set(asked)).toEqual(new Set([4, 3]));
  });

  it('punches whole blocks and writes the rest', () => {
    const punched: number[][] = [];
    const library = new StandIn({
      fcntl: (_fd: number, command: number, type: string, hole: Buffer) => {
        expect([command, type, hole.length]).toEqual([99, 'void *', 24]);
        punched.push([Number(hole.readBigInt64LE(8)), Number(hole.readBigInt64LE(16))]);
        return 0;
      },
    });
    const calls = new DarwinCalls(library);
    const content = coded(0, 65536);
    const descriptor = fileOf(content);
    const block = fs.fstatSync(descriptor).blksize;
    expect(calls.punchHole(descriptor, 100, 3 * block)).toBe(true);
    expect(punched).toEqual([[block, 2 * block]]);
    expect(calls.punchHole(descriptor, 5 * block + 1, 10)).toBe(true);
    expect(punched.length).toBe(1);
    const after = Buffer.alloc(65536);
    fs.readSync(descriptor, after, 0, 65536, 0);
    const expected = Buffer.from(content);
    expected.fill(0, 100, block);
    expected.fill(0, 3 * block, 3 * block + 100);
    expected.fill(0, 5 * block + 1, 5 * block + 11);
    expect(after.equals(expected)).toBe(true);
    fs.closeSync(descriptor);
  });

  it('reserves space behind the end only', () => {
    const wanted: number[] = [];
    const library = new StandIn({
      fcntl: (_fd: number, command: number, _type: string, store: Buffer) => {
        expect([command, store.length, store.readUInt32LE(0), store.readInt32LE(4)]).toEqual([42, 32, 4, 3]);
        wanted.push(Number(store.readBigInt64LE(16)));
        return 0;
      },
    });
    const calls = new DarwinCalls(library);
    const descriptor = fileOf(coded(0, 4096));
    expect(calls.allocate(descriptor, 4096, MiB)).toBe(true);
    expect([wanted, fs.fstatSync(descriptor).size]).toEqual([[MiB], MiB + 4096]);
    fs.ftruncateSync(descriptor, 8 * MiB);
    expect(calls.allocate(descriptor, 0, 8 * MiB)).toBe(false);
    fs.closeSync(descriptor);
  });

  it('keeps the byte protocol of qemu with locks of an open file description', () => {
    // What XNU keeps: struct flock is start, length, pid, type, whence; F_RDLCK 1, F_UNLCK 2, F_WRLCK 3.
    const locks = new Set<string>();
    const library = new StandIn({
      fcntl: (fd: number, command: number, _type: string, flock: Buffer) => {
        const byte = Number(flock.readBigInt64LE(0));
        expect([flock.length, Number(flock.readBigInt64LE(8)), flock.readInt16LE(22)]).toEqual([24, 1, 0]);
        const type = flock.readInt16LE(20);
        if (command === 92) {
          const other = [...locks].some((lock) => lock.endsWith(`:${byte}`) && !lock.startsWith(`${fd}:`));
          flock.writeInt16LE(other ? 1 : 2, 20);
        } else if (command === 90 && type === 1) locks.add(`${fd}:${byte}`);
        else if (command === 90 && type === 2) locks.delete(`${fd}:${byte}`);
        else return -1;
        return 0;
      },
    });
    const calls = new DarwinCalls(library);
    expect(calls.lock(1, 'read')).toBeNull();
    expect([...locks]).toEqual(['1:100', '1:201', '1:203']);
    expect(calls.lock(2, 'read')).toBeNull();
    expect(calls.lock(3, 'write')).toEqual({ permission: 'write', exclusive: true });
    expect([...locks].some((lock) => lock.startsWith('3:'))).toBe(false);
  });

  it('takes no locks where the file system has none', () => {
    const library = new StandIn({ fcntl: () => -1 });
    library.errno = 'ENOTSUP';
    expect(new DarwinCalls(library).lock(1, 'write')).toBeNull();
    library.errno = 'EAGAIN';
    expect(new DarwinCalls(library).lock(1, 'write')).toEqual({ permission: 'consistent read', exclusive: true });
  });

  it('asks a disk for its blocks and their size', () => {
    const library = new StandIn({
      ioctl: (_fd: number, request: number, _type: string, answer: Buffer) => {
        if (request === readRequest('d', 24, 4)) answer.writeUInt32LE(4096);
        else if (request === readRequest('d', 25, 8)) answer.writeBigUInt64LE(1_000_000n);
        else return -1;
        return 0;
      },
    });
    const calls = new DarwinCalls(library);
    expect([calls.deviceSize(3), calls.deviceSectorSize(3)]).toEqual([4_096_000_000, 4096]);
    const broken = new StandIn({ ioctl: () => -1 });
    broken.errno = 'ENOTTY';
    expect(() => new DarwinCalls(broken).deviceSize(3)).toThrow(expect.objectContaining({ code: 'ENOTTY' }) as Error);
  });
});
