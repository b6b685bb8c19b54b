// Repair of VDI, VHD and VHDX images: damaged byte by byte, repaired, checked again, and read by qemu-img where it can.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { silentJob } from '../../../core/job.ts';
import { check, type CheckResult } from '../../../core/operations/check.ts';
import { describeWith, mustRun, runPlatter, runQemuImg } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

const folder = scratchFolder('repairs');
const MiB = 1024 * 1024;
let number = 0;

interface Made {
  readonly file: string;
  /** The same disk, never damaged. */
  readonly sound: string;
}

/** 16 MiB: 0x11 at 1 MiB, 0x22 at 5 MiB, 0x33 at 9 MiB. */
function make(format: string, options = ''): Made {
  const file = path.join(folder, `${number++}.${format}`);
  const how = options === '' ? [] : ['-o', options];
  mustRun('qemu-img', ['create', '-q', '-f', format, ...how, file, '16M']);
  const writes = ['write -P 0x11 1M 64k', 'write -P 0x22 5M 64k', 'write -P 0x33 9M 64k'];
  mustRun('qemu-io', ['-f', format, ...writes.flatMap((command) => ['-c', command]), file]);
  const sound = `${file}.sound`;
  fs.copyFileSync(file, sound);
  return { file, sound };
}

function edit(file: string, change: (bytes: Buffer) => Buffer | undefined): void {
  const bytes = fs.readFileSync(file);
  fs.writeFileSync(file, change(bytes) ?? bytes);
}

function run(file: string, format: string, repair: 'leaks' | 'all' | null): Promise<CheckResult> {
  return check({ path: file, options: { format, undo: 'none' }, limit: 100, repair }, silentJob);
}

/** Something is found, one repair takes it away, and a second one has nothing to do. */
async function mends(file: string, format: string): Promise<CheckResult> {
  const found = await run(file, format, null);
  expect(found.corruptions + found.leaks).toBeGreaterThan(0);
  const repaired = await run(file, format, 'all');
  expect(repaired).toMatchObject({ corruptions: 0, leaks: 0, errors: 0, findings: [] });
  expect((repaired.fixed?.corruptions ?? 0) + (repaired.fixed?.leaks ?? 0)).toBeGreaterThan(0);
  const bytes = fs.readFileSync(file);
  expect((await run(file, format, 'all')).fixed).toEqual({ corruptions: 0, leaks: 0 });
  expect(fs.readFileSync(file).equals(bytes)).toBe(true);
  return repaired;
}

/** Found, and not touched by a repair. */
async function leaves(file: string, format: string): Promise<void> {
  const bytes = fs.readFileSync(file);
  const repaired = await run(file, format, 'all');
  expect(repaired.fixed).toEqual({ corruptions: 0, leaks: 0 });
  expect(repaired.corruptions).toBeGreaterThan(0);
  expect(fs.readFileSync(file).equals(bytes)).toBe(true);
}

function same(format: string, one: string, other: string): void {
  expect(runQemuImg(['compare', '-f', format, '-F', format, one, other])).toMatchObject({ status: 0 });
}

/** `pattern` at `offset`, as qemu-io reads it. */
function reads(file: string, format: string, pattern: string, offset: string): void {
  expect(mustRun('qemu-io', ['-r', '-f', format, '-c', `read -P ${pattern} ${offset} 64k`, file])).not.toContain(
    'failed',
  );
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'repair of VDI', () => {
  const map = (bytes: Buffer): number => bytes.readUInt32LE(0x154);
  const vdi = (change: (bytes: Buffer) => Buffer | undefined): Made => {
    const made = make('vdi');
    edit(made.file, change);
    return made;
  };
  const clean = (file: string): void => {
    expect(runQemuImg(['check', '-f', 'vdi', file])).toMatchObject({ status: 0 });
  };

  it.each([0, 1, 9])('the number of blocks, which says %i', async (count) => {
    const { file, sound } = vdi((bytes) => void bytes.writeUInt32LE(count, 0x184));
    await mends(file, 'vdi');
    same('vdi', file, sound);
    clean(file);
  });

  it('two blocks in one place', async () => {
    const { file } = vdi((bytes) => void bytes.writeUInt32LE(0, map(bytes) + 4 * 5));
    await mends(file, 'vdi');
    // Both read what stood in the place, and no longer the same bytes of the file.
    reads(file, 'vdi', '0x11', '1M');
    reads(file, 'vdi', '0x11', '5M');
    mustRun('qemu-io', ['-f', 'vdi', '-c', 'write -P 0x44 5M 64k', file]);
    reads(file, 'vdi', '0x11', '1M');
    reads(file, 'vdi', '0x33', '9M');
    clean(file);
  });

  it('a block that is not in the file any more; the others stay', async () => {
    const { file } = vdi((bytes) => bytes.subarray(0, bytes.readUInt32LE(0x158) + 2 * MiB));
    await mends(file, 'vdi');
    reads(file, 'vdi', '0x11', '1M');
    reads(file, 'vdi', '0x22', '5M');
    reads(file, 'vdi', '0', '9M');
    clean(file);
  });

  it('a file that ends inside of its last block', async () => {
    const { file, sound } = vdi((bytes) => bytes.subarray(0, bytes.length - 500_000));
    await mends(file, 'vdi');
    same('vdi', file, sound);
    clean(file);
  });

  it('unused space at the end is cut off by -r leaks', async () => {
    const { file, sound } = vdi((bytes) => Buffer.concat([bytes, Buffer.alloc(3 * MiB)]));
    expect((await run(file, 'vdi', 'leaks')).fixed).toEqual({ corruptions: 0, leaks: 3 });
    expect(fs.statSync(file).size).toBe(fs.statSync(sound).size);
    same('vdi', file, sound);
  });

  it('a number that the image cannot have, inside of the file, is left', async () => {
    const { file } = vdi((bytes) => {
      bytes.writeUInt32LE(100, map(bytes) + 4 * 5);
      return Buffer.concat([bytes, Buffer.alloc(110 * MiB)]);
    });
    await leaves(file, 'vdi');
  });
});

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'repair of VHD', () => {
  const vhd = (change: (bytes: Buffer) => Buffer | undefined, options = 'subformat=dynamic,force_size=on'): Made => {
    const made = make('vpc', options);
    edit(made.file, change);
    return made;
  };
  const bat = (bytes: Buffer): number => Number(bytes.readBigUInt64BE(512 + 16));
  const damages: [string, (bytes: Buffer) => Buffer | undefined][] = [
    ['the footer is missing', (bytes) => bytes.subarray(0, bytes.length - 512)],
    ['the footer has a wrong checksum', (bytes) => void bytes.writeUInt32BE(1, bytes.length - 512 + 64)],
    ['the footer has other bytes', (bytes) => void bytes.fill(0x55, bytes.length - 440, bytes.length)],
    ['the copy is missing', (bytes) => void bytes.fill(0, 0, 512)],
    ['the copy has a wrong checksum', (bytes) => void bytes.writeUInt32BE(1, 64)],
    ['the dynamic header has a wrong checksum', (bytes) => void bytes.writeUInt32BE(1, 512 + 36)],
  ];
  it.each(damages)('%s', async (_name, damage) => {
    const { file, sound } = vhd(damage);
    await mends(file, 'vpc');
    same('vpc', file, sound);
  });

  it('a fixed disk whose footer has a wrong checksum', async () => {
    const { file, sound } = vhd(
      (bytes) => void bytes.writeUInt32BE(1, bytes.length - 512 + 64),
      'subformat=fixed,force_size=on',
    );
    await mends(file, 'vpc');
    expect(fs.readFileSync(file).equals(fs.readFileSync(sound))).toBe(true);
  });

  it('two blocks in one room', async () => {
    const { file } = vhd((bytes) => void bytes.writeUInt32BE(bytes.readUInt32BE(bat(bytes)), bat(bytes) + 4 * 4));
    const found = await run(file, 'vpc', null);
    expect(found.corruptions).toBe(1);
    const repaired = await run(file, 'vpc', 'all');
    // The room that the second one had before the damage is space that nobody uses now.
    expect(repaired).toMatchObject({ corruptions: 0, errors: 0, fixed: { corruptions: 1 } });
    reads(file, 'vpc', '0x11', '1M');
    reads(file, 'vpc', '0x11', '9M');
    reads(file, 'vpc', '0x22', '5M');
    mustRun('qemu-io', ['-f', 'vpc', '-c', 'write -P 0x44 9M 64k', file]);
    reads(file, 'vpc', '0x11', '1M');
  });

  it('blocks that are not in the file any more, and the footer with them', async () => {
    const { file } = vhd((bytes) => bytes.subarray(0, bytes.readUInt32BE(bat(bytes) + 4 * 4) * 512 - 100_000));
    await mends(file, 'vpc');
    reads(file, 'vpc', '0x11', '1M');
    reads(file, 'vpc', '0x22', '5M');
    reads(file, 'vpc', '0', '9M');
  });

  it('rooms that overlap in part are left', async () => {
    const { file } = vhd((bytes) => void bytes.writeUInt32BE(bytes.readUInt32BE(bat(bytes)) + 8, bat(bytes) + 4 * 4));
    await leaves(file, 'vpc');
  });

  it('footers that differ are left', async () => {
    const { file } = vhd((bytes) => {
      const at = bytes.length - 512;
      bytes.writeUInt32BE(bytes.readUInt32BE(at + 24) + 1, at + 24);
      bytes.writeUInt32BE(0, at + 64);
      let sum = 0;
      for (let i = 0; i < 512; i++) sum += bytes[at + i] ?? 0;
      bytes.writeUInt32BE(~sum >>> 0, at + 64);
    });
    await leaves(file, 'vpc');
  });
});

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'repair of VHDX', () => {
  const damages: [string, (bytes: Buffer) => Buffer | undefined][] = [
    ['the first header', (bytes) => void bytes.fill(0x55, 65_536 + 8, 65_536 + 40)],
    ['the second header', (bytes) => void bytes.fill(0, 2 * 65_536, 3 * 65_536)],
    ['the first copy of the region table', (bytes) => void bytes.fill(0, 3 * 65_536, 4 * 65_536)],
    ['the second copy of the region table', (bytes) => void bytes.writeUInt8(1, 4 * 65_536 + 60)],
    ['a header and a copy', (bytes) => bytes.fill(0, 65_536, 65_536 + 4096).fill(1, 4 * 65_536, 4 * 65_536 + 99)],
  ];
  it.each(damages)('%s', async (_name, damage) => {
    const { file, sound } = make('vhdx');
    edit(file, damage);
    await mends(file, 'vhdx');
    expect(runQemuImg(['check', '-f', 'vhdx', file])).toMatchObject({ status: 0 });
    same('vhdx', file, sound);
  });
});

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'repair of a copy', () => {
  const onCopy = (file: string, format: string, copy: string): Promise<CheckResult> =>
    check({ path: file, options: { format }, limit: 100, repair: null, onCopy: copy }, silentJob);

  it('leaves the original as it is, and tells both counts', async () => {
    const { file, sound } = make('vdi');
    edit(file, (bytes) => void bytes.writeUInt32LE(0, 0x184));
    const bytes = fs.readFileSync(file);
    const copy = path.join(folder, 'copy.vdi');
    const result = await onCopy(file, 'vdi', copy);
    expect(result).toMatchObject({ corruptions: 0, leaks: 0, copy: { files: [copy], before: { corruptions: 3 } } });
    expect(fs.readFileSync(file).equals(bytes)).toBe(true);
    same('vdi', copy, sound);
    await expect(onCopy(file, 'vdi', copy)).rejects.toMatchObject({ code: 'clone/exists' });
  });

  it('takes all files of an image along, into another folder', async () => {
    const file = path.join(folder, 'split.vmdk');
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentSparse', file, '5G']);
    mustRun('qemu-io', ['-f', 'vmdk', '-c', 'write -P 7 3G 64k', file]);
    await expect(onCopy(file, 'vmdk', path.join(folder, 'beside.vmdk'))).rejects.toMatchObject({
      code: 'clone/same-folder',
    });
    expect(fs.existsSync(path.join(folder, 'beside.vmdk'))).toBe(false);
    fs.mkdirSync(path.join(folder, 'there'));
    const copy = path.join(folder, 'there', 'split.vmdk');
    const result = await onCopy(file, 'vmdk', copy);
    expect(result.copy?.files).toHaveLength(4);
    same('vmdk', copy, file);
  });
});

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'an overlay whose base has changed', () => {
  it('is relinked when that is asked for, and not otherwise', async () => {
    const [base, top] = ['base.vmdk', 'top.vmdk'].map((name) => path.join(folder, name)) as [string, string];
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', base, '16M']);
    mustRun('qemu-img', ['create', '-q', '-f', 'vmdk', '-b', base, '-F', 'vmdk', top]);
    mustRun('qemu-io', ['-f', 'vmdk', '-c', 'write -P 9 1M 64k', top]);
    mustRun('qemu-io', ['-f', 'vmdk', '-c', 'write -P 8 2M 64k', base]);
    const read = ['-r', '-f', 'vmdk', '-c', 'read -P 9 1M 64k', top];
    const opens = (): boolean => runQemuImg(['map', '-f', 'vmdk', top]).status === 0;
    const before = opens();
    const params = { path: top, options: { format: 'vmdk', undo: 'none' as const }, limit: 0, repair: 'all' as const };
    expect((await check(params, silentJob)).fixed).toEqual({ corruptions: 0, leaks: 0 });
    expect(opens()).toBe(before);
    expect((await check({ ...params, relink: true }, silentJob)).fixed).toEqual({ corruptions: 1, leaks: 0 });
    expect(opens()).toBe(true);
    expect(mustRun('qemu-io', read)).not.toContain('failed');
    expect((await check({ ...params, relink: true }, silentJob)).fixed).toEqual({ corruptions: 0, leaks: 0 });
  });
});

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'the parent, in a check', () => {
  /** A differencing disk over a parent, in a folder of their own. */
  const pair = async (format: string): Promise<{ base: string; top: string }> => {
    const place = path.join(folder, `parent-${number++}`);
    fs.mkdirSync(place);
    const ending = format === 'vpc' ? 'vhd' : format;
    const [base, top] = [path.join(place, `base.${ending}`), path.join(place, `top.${ending}`)];
    mustRun('qemu-img', ['create', '-q', '-f', format, base, '16M']);
    const made = runPlatter(['create', '-q', '-f', format, '-b', path.basename(base), '-F', format, top], named);
    expect(made, made.stderr).toMatchObject({ status: 0 });
    expect((await run(top, format, null)).findings).toEqual([]);
    return { base, top };
  };
  const named = { env: { PLATTER_PROGNAME: 'platter' } };
  /** Another identity of the content, as another program would give it. */
  const changes: [format: string, code: string, field: string, change: (base: string) => void][] = [
    [
      'vmdk',
      'vmdk/parent-changed',
      'parentCID',
      (base) => void mustRun('qemu-io', ['-f', 'vmdk', '-c', 'write -P 8 2M 64k', base]),
    ],
    [
      'vhdx',
      'vhdx/parent-changed',
      'parent_linkage',
      (base) => void mustRun('qemu-io', ['-f', 'vhdx', '-c', 'write -P 8 2M 64k', base]),
    ],
    ['vpc', 'vhd/parent-changed', 'parent_unique_id', (base) => void recreate('vpc', base)],
    [
      'vdi',
      'vdi/parent-changed',
      'uuid_linkage',
      (base) => edit(base, (bytes) => void bytes.writeUInt32LE(0x1234_5678, 0x198)),
    ],
  ];
  const recreate = (format: string, file: string): void => {
    fs.rmSync(file);
    mustRun('qemu-img', ['create', '-q', '-f', format, file, '16M']);
  };

  it.each(changes)('%s: %s', async (format, code, field, change) => {
    const { base, top } = await pair(format);
    change(base);
    const result = await run(top, format, null);
    expect(result).toMatchObject({ corruptions: 1, errors: 0 });
    expect(result.findings).toMatchObject([{ code, severity: 'corruption', where: { file: top, field } }]);
    const text = runPlatter(['check', '-f', format, top], named);
    expect(text.status).toBe(2);
    expect(text.stderr).toContain(`[${code} at ${top}`);
    expect(text.stderr).toContain(`check -r all --relink ${top}`);
    const json = runPlatter(['check', '-f', format, '--output=json', top], named);
    expect(json.status).toBe(2);
    expect(JSON.parse(json.stdout)).toMatchObject({
      corruptions: 1,
      findings: [{ code, severity: 'corruption', field }],
    });
  });

  it.each(['vmdk', 'vhdx', 'vpc', 'vdi'])('%s: it is missing', async (format) => {
    const { base, top } = await pair(format);
    fs.rmSync(base);
    const result = await run(top, format, null);
    expect(result).toMatchObject({ corruptions: 0, errors: 1 });
    expect(result.findings).toMatchObject([{ severity: 'error', where: { file: top } }]);
    expect(result.findings[0]?.code).toMatch(/\/parent-missing$/);
    const text = runPlatter(['check', '-f', format, top], named);
    expect(text.status).toBe(1);
    expect(text.stderr).toContain('/parent-missing');
  });

  it.each(['vmdk', 'vhdx', 'vdi'])('%s: relinked, it is in order', async (format) => {
    const { base, top } = await pair(format);
    changes.find(([one]) => one === format)?.[3](base);
    const mended = runPlatter(['check', '-r', 'all', '--relink', '-f', format, top], named);
    expect(mended, mended.stderr).toMatchObject({ status: 0 });
    expect((await run(top, format, null)).findings).toEqual([]);
  });
});
