// qcow version 1 both ways with qemu: random writes against a buffer, compressed clusters, layers, encryption; check, regions, measure.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFile } from '../../../../core/block/file.ts';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import type { WritableNode } from '../../../../core/block/node.ts';
import { pack } from '../../../../core/block/packed.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { ImageError } from '../../../../core/errors/image-error.ts';
import type { OpenRequest, OptionValue } from '../../../../core/formats/driver.ts';
import type { OpenOptions } from '../../../../core/formats/open.ts';
import { qcow } from '../../../../core/formats/qcow/driver.ts';
import { silentJob } from '../../../../core/job.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { processorTime } from '../../../processor-time.ts';
import { scratchFolder } from '../../../scratch.ts';
import { chosenSeed, SeededRandom } from '../../../seeded-random.ts';
import { mustRunWithSecrets, secret } from '../../block/crypto/passphrases.ts';
import { checkAt, checkOf, contentAt, regionsOf, withImage, writing } from '../new-image.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const aes = { 'encrypt.format': 'aes', 'encrypt.key-secret': 's' };

interface Row {
  readonly name: string;
  readonly options: Readonly<Record<string, OptionValue>>;
  readonly backing: boolean;
}

const rows: readonly Row[] = [
  { name: 'alone', options: {}, backing: false },
  { name: 'over a base', options: {}, backing: true },
  { name: 'encrypted', options: aes, backing: false },
  { name: 'encrypted over a base', options: aes, backing: true },
];

function zeroGuest(node: WritableNode, start: number, length: number): void {
  for (let at = start; at < start + length;) {
    const done = node.zero({ start: at, length: start + length - at });
    const step = done === null ? Math.min(512, start + length - at) : done.length;
    if (done === null) writeGuest(node, new Uint8Array(step), at);
    at += step;
  }
}

describeWith({ peers: ['qemu-img', 'qemu-io', 'qcowinfo'] }, 'qcow', () => {
  const folder = scratchFolder('qcow');
  const file = path.join(folder, 'image.qcow');
  const raw = path.join(folder, 'raw');
  const size = 7 * MiB + 3 * 512;
  const baseSize = 4 * MiB;
  const base = positionCoded(0, baseSize, 250);
  fs.writeFileSync(path.join(folder, 'base.raw'), base);

  const opening = (row: Row): OpenOptions =>
    row.options === aes ? { secret, runtime: { 'encrypt.key-secret': 's' } } : {};
  const description = (row: Row): string =>
    `driver=qcow,file.filename=${file}${row.options === aes ? ',encrypt.key-secret=s' : ''}`;

  function create(row: Row, length: number): void {
    fs.rmSync(file, { force: true });
    const storage = openFile(file, { writable: true, lock: 'none', create: 'new', mode: 0o644 });
    qcow.create?.({
      storage,
      name: file,
      size: length,
      options: row.options,
      backing: row.backing ? { path: 'base.raw', format: 'raw' } : null,
      createFile: (name) => {
        throw new Error(`no second file ('${name}') is expected`);
      },
      secret,
      job: silentJob,
    });
    storage.close();
  }

  const emptyModel = (row: Row): Uint8Array => {
    const model = new Uint8Array(size);
    if (row.backing) model.set(base);
    return model;
  };

  for (const row of rows) {
    describe(row.name, () => {
      it('has the header that qemu-img writes', () => {
        create(row, size);
        const theirs = path.join(folder, 'theirs.qcow');
        const below = row.backing ? ['-b', 'base.raw', '-F', 'raw'] : [];
        const options = row.options === aes ? ['-o', 'encrypt.format=aes,encrypt.key-secret=s'] : [];
        mustRunWithSecrets('qemu-img', ['create', '-q', '-f', 'qcow', ...options, ...below, theirs, String(size)], {
          cwd: folder,
        });
        expect(Buffer.compare(fs.readFileSync(file), fs.readFileSync(theirs))).toBe(0);
        expect(mustRun('qcowinfo', [file])).toMatch(/Format version\s*: 1/);
      });

      it('takes random writes, zeroes and discards, and qemu-img reads the same', () => {
        create(row, size);
        const model = emptyModel(row);
        const random = new SeededRandom(chosenSeed(`qcow ${row.name}`));
        for (let round = 0; round < 4; round++) {
          writing(
            file,
            (node) => {
              for (let i = 0; i < 60; i++) {
                const start = random.below(size);
                const length = Math.min(size - start, 1 + random.below(random.oneIn(6) ? 400_000 : 12_000));
                if (random.oneIn(5)) {
                  zeroGuest(node, start, length);
                  model.fill(0, start, start + length);
                } else {
                  const bytes = positionCoded(start, length, 1 + round * 60 + i);
                  writeGuest(node, bytes, start);
                  model.set(bytes, start);
                }
                if (random.oneIn(20)) node.flush();
              }
            },
            opening(row),
          );
          expect(difference(contentAt(file, opening(row)), model)).toBeNull();
          mustRunWithSecrets('qemu-img', ['convert', '-O', 'raw', '--image-opts', description(row), raw]);
          expect(difference(fs.readFileSync(raw), model)).toBeNull();
          const { findings } = checkAt(qcow, file);
          expect(findings.filter(({ severity }) => severity !== 'leak')).toEqual([]);
          withImage(file, { guestData: false, withBacking: false }, (node) => regionsOf(qcow, node));
        }
      });

      it('is read after qemu-io has written it', () => {
        create(row, size);
        const model = emptyModel(row);
        const random = new SeededRandom(chosenSeed(`qcow io ${row.name}`));
        const commands: string[] = [];
        for (let i = 0; i < 40; i++) {
          const start = random.below(size / 512) * 512;
          const length = Math.min(size - start, (1 + random.below(200)) * 512);
          commands.push('-c', `write -q -P ${i + 1} ${start} ${length}`);
          model.fill(i + 1, start, start + length);
        }
        mustRunWithSecrets('qemu-io', ['--image-opts', description(row), ...commands]);
        expect(difference(contentAt(file, opening(row)), model)).toBeNull();
        expect(checkAt(qcow, file).findings).toEqual([]);
      });
    });
  }

  it('reads compressed clusters of qemu-io, and rewrites them', () => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow', file, '1M']);
    const commands = Array.from({ length: 30 }, (_, i) => ['-c', `write -q -c -P ${i + 1} ${i * 12}k 4k`]).flat();
    mustRun('qemu-io', ['-f', 'qcow', ...commands, file]);
    const model = new Uint8Array(MiB);
    for (let i = 0; i < 30; i++) model.fill(i + 1, i * 12 * KiB, i * 12 * KiB + 4 * KiB);
    expect(difference(contentAt(file), model)).toBeNull();
    expect(checkAt(qcow, file).summary.compressedClusters).toBe(30);
    const bytes = positionCoded(1000, 60_000, 9);
    writing(file, (node) => writeGuest(node, bytes, 1000));
    model.set(bytes, 1000);
    expect(difference(contentAt(file), model)).toBeNull();
    mustRun('qemu-img', ['convert', '-f', 'qcow', '-O', 'raw', file, raw]);
    expect(difference(fs.readFileSync(raw), model)).toBeNull();
  });

  it('writes compressed clusters that qemu-img reads; none in an encrypted image', () => {
    const plain: Row = { name: 'packed', options: {}, backing: false };
    create(plain, MiB);
    const model = new Uint8Array(MiB);
    writing(file, (node) => {
      const { packed } = node;
      if (packed === undefined) throw new Error('no packed units');
      for (let at = 0; at < MiB; at += 3 * packed.unit) {
        const unit = new Uint8Array(packed.unit).fill((at / packed.unit) & 0xff);
        const reserved = packed.reservePacked(at, pack(packed.codec, unit));
        if (reserved === null) throw new Error('not stored packed');
        reserved.place.storage.writeAt(reserved.bytes, reserved.place.offset);
        reserved.place.publish();
        model.set(unit, at);
      }
      expect(packed.reservePacked(packed.unit, new Uint8Array(packed.unit))).toBeNull();
    });
    mustRun('qemu-img', ['convert', '-f', 'qcow', '-O', 'raw', file, raw]);
    expect(difference(fs.readFileSync(raw), model)).toBeNull();
    expect(difference(contentAt(file), model)).toBeNull();
    const secretRow = rows[2];
    if (secretRow === undefined) throw new Error('no row');
    create(secretRow, MiB);
    writing(file, (node) => expect(node.packed).toBeUndefined(), opening(secretRow));
  });

  it('grows, shrinks, and changes its layer below; qemu-img agrees', () => {
    for (const row of [rows[0], rows[1]]) {
      if (row === undefined) continue;
      create(row, size);
      const before = positionCoded(0, 3 * MiB, 7);
      writing(file, (node) => writeGuest(node, before, 100));
      const expected = emptyModel(row);
      expected.set(before, 100);
      const small = 2 * MiB + 512;
      writing(file, (node) => node.resize(small));
      const large = 40 * MiB;
      writing(file, (node) => node.resize(large));
      const model = new Uint8Array(large);
      model.set(expected.subarray(0, small));
      expect(difference(contentAt(file), model)).toBeNull();
      mustRun('qemu-img', ['convert', '-f', 'qcow', '-O', 'raw', file, raw]);
      expect(difference(fs.readFileSync(raw), model)).toBeNull();
      expect(checkAt(qcow, file).findings.filter(({ severity }) => severity !== 'leak')).toEqual([]);
    }
    const name = `${'long-'.repeat(100)}name.raw`.slice(0, 200);
    fs.writeFileSync(path.join(folder, name), base);
    writing(file, (node) => node.setBacking({ path: name, format: 'raw' }));
    expect(mustRun('qemu-img', ['info', '-f', 'qcow', file])).toContain(`backing file: ${name}`);
    writing(file, (node) => node.setBacking(null));
    expect(mustRun('qemu-img', ['info', '-f', 'qcow', file])).not.toContain('backing file');
  });

  it('takes as many bytes as measured', () => {
    const runs = [
      { start: 0, length: 5000 },
      { start: 3 * MiB, length: 64 * KiB },
      { start: 6 * MiB + 100, length: 1 },
    ];
    for (const row of rows) {
      create(row, size);
      const backing = row.backing ? { path: 'base.raw', format: 'raw' } : null;
      const request = { size, options: row.options, backing, secret };
      expect(fs.statSync(file).size).toBe(qcow.measure?.({ ...request, data: null }).required);
      writing(
        file,
        (node) => {
          for (const { start, length } of runs) writeGuest(node, new Uint8Array(length).fill(1), start);
        },
        opening(row),
      );
      expect(fs.statSync(file).size, row.name).toBe(qcow.measure?.({ ...request, data: () => runs }).required);
      writing(file, (node) => writeGuest(node, new Uint8Array(size).fill(2), 0), opening(row));
      expect(fs.statSync(file).size, row.name).toBe(qcow.measure?.({ ...request, data: null }).fullyAllocated);
    }
  });

  describe('headers', () => {
    const be32 = (value: number): number[] => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
    const be64 = (value: bigint): number[] => [...be32(Number(value >> 32n)), ...be32(Number(value & 0xffff_ffffn))];
    const refused: readonly [what: string, offset: number, bytes: readonly number[]][] = [
      ['another magic', 0, [0x58]],
      ['version 2', 4, be32(2)],
      ['version 0', 4, be32(0)],
      ['a disk of no bytes', 24, be64(0n)],
      ['a disk of one byte', 24, be64(1n)],
      ['a disk of 2^50 bytes', 24, be64(1n << 50n)],
      ['a disk of 2^63 bytes', 24, be64(1n << 63n)],
      ['cluster_bits 8', 32, [8]],
      ['cluster_bits 17', 32, [17]],
      ['cluster_bits 255', 32, [255]],
      ['l2_bits 5', 33, [5]],
      ['l2_bits 14 (CVE-2014-0222)', 33, [14]],
      ['l2_bits 63 (CVE-2014-0222)', 33, [63]],
      ['an unknown encryption', 36, be32(2)],
      ['a name of 1024 bytes', 8, [...be64(48n), ...be32(1024)]],
    ];
    for (const [what, offset, bytes] of refused) {
      it(`with ${what} are refused in the words of qemu-img`, () => {
        mustRun('qemu-img', ['create', '-q', '-f', 'qcow', file, '10M']);
        const image = fs.readFileSync(file);
        image.set(bytes, offset);
        fs.writeFileSync(file, image);
        let message = 'opened';
        try {
          withImage(file, { format: 'qcow' }, () => {});
        } catch (error) {
          if (!(error instanceof ImageError)) throw error;
          message = error.message;
        }
        const theirs = runQemuImg(['info', '-f', 'qcow', file]);
        expect(theirs.stderr.trimEnd()).toBe(`qemu-img: Could not open '${file}': ${message}`);
      });
    }

    it('and tables that lie beyond the file are refused, and found by check', () => {
      mustRun('qemu-img', ['create', '-q', '-f', 'qcow', file, '10M']);
      mustRun('qemu-io', ['-f', 'qcow', '-c', 'write -q -P 1 0 64k', '-c', 'write -q -P 2 5M 64k', file]);
      const whole = fs.readFileSync(file);
      const l2 = Number(whole.readBigUInt64BE(48));
      const rowsOfDamage: readonly [offset: number, value: bigint, read: string, found: string][] = [
        [48, 1n << 30n, 'qcow/table-beyond-file', 'qcow/table-beyond-file'],
        [l2, 1n << 30n, 'qcow/cluster-beyond-file', 'qcow/check-outside'],
        [l2, 8193n, 'qcow/cluster-offset', 'qcow/check-unaligned'],
        [l2, (1n << 63n) | (1n << 40n) | (100n << 51n), 'qcow/packed-beyond-file', 'qcow/check-outside'],
        [l2, whole.readBigUInt64BE(l2 + 8), 'none', 'qcow/check-shared'],
        [48 + 16, whole.readBigUInt64BE(48), 'none', 'qcow/table-shared'],
      ];
      for (const [offset, value, read, found] of rowsOfDamage) {
        const damaged = Buffer.from(whole);
        damaged.writeBigUInt64BE(value, offset);
        fs.writeFileSync(file, damaged);
        let code = 'none';
        try {
          contentAt(file);
        } catch (error) {
          if (!(error instanceof ImageError)) throw error;
          code = error.code;
        }
        expect(code, `${offset}: ${value}`).toBe(read);
        expect(
          checkAt(qcow, file).findings.map((finding) => finding.code),
          `${offset}: ${value}`,
        ).toContain(found);
      }
    });
  });
});

describe('mutants of qcow images', () => {
  const count = Number(process.env.FUZZ_MUTANTS ?? 500);
  const request: OpenRequest = {
    writable: false,
    gate: {
      openImage: () => {
        throw new ImageError('gate/refused', { name: 'any', reason: 'no other files' });
      },
      openFile: () => {
        throw new Error('qcow has no further files');
      },
    },
    withBacking: false,
    runtime: {},
    forRepair: false,
    secret,
  };

  it(`(${count}) give an answer or an ImageError`, () => {
    const storage = new MemoryStorage();
    qcow.create?.({
      storage,
      name: 'seed',
      size: 2 * MiB,
      options: {},
      backing: null,
      createFile: () => {
        throw new Error('one file');
      },
      job: silentJob,
    });
    const made = qcow.open(storage, { ...request, writable: true }) as WritableNode;
    writeGuest(made, positionCoded(0, 40_000, 1), 5000);
    writeGuest(made, positionCoded(0, 9000, 2), MiB);
    made.flush();
    const seed = storage.bytes();
    const random = new SeededRandom(chosenSeed('qcow mutants'));
    const attempt = (action: () => void): void => {
      try {
        action();
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
      }
    };
    for (let i = 0; i < count; i++) {
      const bytes = Uint8Array.from(seed);
      for (let n = 1 + random.below(4); n > 0; n--) {
        const at = random.oneIn(2) ? random.below(64) : 4096 + random.below(4096);
        bytes[at] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
      }
      const start = processorTime();
      attempt(() => {
        const node = qcow.open(new MemoryStorage(bytes), request);
        attempt(() => {
          const into = Math.min(node.size, 256 * KiB);
          for (let at = 0; at < into;) at += node.map({ start: at, length: into - at }).length;
        });
        attempt(() => regionsOf(qcow, node));
      });
      attempt(() => checkOf(qcow, qcow.open(new MemoryStorage(bytes), { ...request, forRepair: true })));
      attempt(() => {
        const node = qcow.open(new MemoryStorage(bytes), { ...request, writable: true }) as WritableNode;
        attempt(() => writeGuest(node, positionCoded(0, Math.min(node.size, 20_000), 3), 0));
        attempt(() => node.flush());
      });
      expect(processorTime() - start, `mutant ${i}`).toBeLessThan(10_000);
    }
  });
});
