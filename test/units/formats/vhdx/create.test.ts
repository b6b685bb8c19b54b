// New VHDX files beside those of qemu-img: options, messages, sizes, and what other readers say of them.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { GiB, MiB, TiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import type { FactTree, OptionValue } from '../../../../core/formats/driver.ts';
import { vhdx } from '../../../../core/formats/vhdx/driver.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { readBySevenZip, sevenZipReadsVhdx } from './readers.ts';
import { checkAt, contentAt, createImage, createIn, regionsOf, withImage, writing } from '../new-image.ts';

type Options = Readonly<Record<string, OptionValue>>;

function optionText(options: Options): string[] {
  const parts = Object.entries(options).map(
    ([name, value]) => `${name}=${value === true ? 'on' : value === false ? 'off' : value}`,
  );
  return parts.length === 0 ? [] : ['-o', parts.join(',')];
}

describeWith({ peers: ['qemu-img'] }, 'new VHDX files', () => {
  const folder = scratchFolder('vhdx-create');
  const ours = path.join(folder, 'ours.vhdx');
  const theirs = path.join(folder, 'theirs.vhdx');

  const sizes = [0, 1, 511, 1000, MiB, 10_000_000, 100 * MiB, GiB, GiB + 1, 100 * GiB + 512, 33 * TiB, 64 * TiB];
  for (const size of sizes) {
    it(`of ${size} bytes look like those of qemu-img, and are sound for it`, () => {
      createImage(vhdx, ours, { size });
      mustRun('qemu-img', ['create', '-q', '-f', 'vhdx', theirs, String(size)]);
      const info = (file: string): unknown => {
        const all = JSON.parse(mustRun('qemu-img', ['info', '--output=json', file])) as Record<string, unknown>;
        return {
          size: all['virtual-size'],
          cluster: all['cluster-size'],
          format: all['format'],
          dirty: all['dirty-flag'],
        };
      };
      expect(info(ours)).toEqual(info(theirs));
      expect(runQemuImg(['check', ours]).stdout).toContain('No errors were found');
      expect(checkAt(vhdx, ours).findings).toEqual([]);
      expect(checkAt(vhdx, theirs).findings).toEqual([]);
      for (const file of [ours, theirs]) {
        withImage(file, {}, (node) => {
          regionsOf(vhdx, node);
          expect(node.size).toBe(Math.ceil(size / 512) * 512);
        });
      }
    });
  }

  const good: Options[] = [
    {},
    { block_size: MiB },
    { block_size: 1_000_000 },
    { block_size: 512 },
    { block_size: 64 * MiB },
    { block_size: 512 * MiB },
    { log_size: 3_500_000 },
    { log_size: 64 * MiB },
    { block_state_zero: false },
    { block_state_zero: true },
    { subformat: 'fixed' },
    { subformat: 'fixed', block_size: 2 * MiB },
    { subformat: 'dynamic', block_size: 2 * MiB, log_size: 2 * MiB, block_state_zero: false },
  ];
  for (const options of good) {
    it(`with ${JSON.stringify(options)} take data from us and from qemu-io`, () => {
      createImage(vhdx, ours, { size: 41 * MiB + 512, options });
      mustRun('qemu-img', ['create', '-q', '-f', 'vhdx', ...optionText(options), theirs, String(41 * MiB + 512)]);
      const cluster = (file: string): unknown =>
        (JSON.parse(mustRun('qemu-img', ['info', '--output=json', file])) as Record<string, unknown>)['cluster-size'];
      expect(cluster(ours)).toBe(cluster(theirs));
      const model = new Uint8Array(41 * MiB + 512);
      for (const [start, length] of [
        [0, 70_000],
        [5 * MiB - 100, 4 * MiB],
        [41 * MiB - 300, 812],
      ] as const) {
        model.set(positionCoded(start, length, 3), start);
      }
      writing(ours, (node) => {
        for (const [start, length] of [
          [0, 70_000],
          [5 * MiB - 100, 4 * MiB],
          [41 * MiB - 300, 812],
        ] as const) {
          writeGuest(node, positionCoded(start, length, 3), start);
        }
      });
      const raw = path.join(folder, 'model.raw');
      fs.writeFileSync(raw, model);
      expect(runQemuImg(['compare', '-f', 'raw', '-F', 'vhdx', raw, ours]).stdout).toContain('Images are identical');
      expect(runQemuImg(['check', '-f', 'vhdx', ours]).stdout).toContain('No errors');
      mustRun('qemu-io', ['-f', 'vhdx', '-c', 'write -q -P 90 12345k 9M', ours]);
      model.fill(90, 12345 * 1024, 12345 * 1024 + 9 * MiB);
      expect(Buffer.compare(contentAt(ours), model)).toBe(0);
      expect(checkAt(vhdx, ours).findings).toEqual([]);
    });
  }

  const bad: Options[] = [
    { block_size: 3 * MiB },
    { block_size: 5_000_000 },
    { log_size: 0 },
    { log_size: 4 * GiB },
    { log_size: 5000 * MiB },
    { subformat: 'differencing' },
    { subformat: 'other' },
  ];
  for (const options of bad) {
    it(`with ${JSON.stringify(options)} are refused in the words of qemu-img`, () => {
      const said = runQemuImg(['create', '-q', '-f', 'vhdx', ...optionText(options), theirs, '100M']).stderr;
      const words = said.trim().slice(`qemu-img: ${theirs}: `.length);
      expect(() => createIn(vhdx, new MemoryStorage(), 'x', { size: 100 * MiB, options })).toThrow(words);
    });
  }

  it('beyond 64 TiB are refused in the words of qemu-img', () => {
    const said = runQemuImg(['create', '-q', '-f', 'vhdx', theirs, '65T']).stderr;
    const words = said.trim().slice(`qemu-img: ${theirs}: `.length);
    expect(() => createIn(vhdx, new MemoryStorage(), 'x', { size: 65 * TiB })).toThrow(words);
  });

  it('have room for their whole disk where they are fixed, and never grow', () => {
    createImage(vhdx, ours, { size: 20 * MiB, options: { subformat: 'fixed', block_size: 2 * MiB } });
    const { size } = fs.statSync(ours);
    writing(ours, (node) => writeGuest(node, positionCoded(0, 20 * MiB, 1), 0));
    mustRun('qemu-io', ['-f', 'vhdx', '-c', 'write -q -P 1 3M 9M', ours]);
    expect(fs.statSync(ours).size).toBe(size);
    withImage(ours, {}, (node) => {
      const first = node.map({ start: 0, length: node.size });
      expect(first).toMatchObject({ kind: 'data', length: 20 * MiB });
    });
  });
});

describeWith({ peers: ['vhdiinfo', '7z'] }, 'two more readers', () => {
  const folder = scratchFolder('vhdx-readers');
  for (const options of [{}, { subformat: 'fixed' }, { logical_sector_size: 4096 }, { block_size: MiB }] as Options[]) {
    it(`know what we make with ${JSON.stringify(options)}`, () => {
      const file = path.join(folder, 'x.vhdx');
      createImage(vhdx, file, { size: 24 * MiB, options });
      writing(file, (node) => writeGuest(node, positionCoded(3 * MiB, 5 * MiB, 4), 3 * MiB));
      const info = mustRun('vhdiinfo', [file]);
      expect(info).toMatch(/Media size\s+: 24 MiB \(25165824 bytes\)/);
      const kind = options.subformat === 'fixed' ? /Disk type\s+: Fixed/ : /Disk type\s+: Dynamic/;
      expect(info).toMatch(kind);
      const model = new Uint8Array(24 * MiB);
      model.set(positionCoded(3 * MiB, 5 * MiB, 4), 3 * MiB);
      if (sevenZipReadsVhdx()) expect(Buffer.compare(readBySevenZip(file), model)).toBe(0);
    });
  }
});

describe('identities', () => {
  const facts = (options: Options): FactTree => {
    const storage = new MemoryStorage();
    createIn(vhdx, storage, 'x', { size: 10 * MiB, options });
    const node = vhdx.open(storage, {
      writable: false,
      gate: {
        openImage: () => {
          throw new Error('none');
        },
        openFile: () => {
          throw new Error('none');
        },
      },
      withBacking: true,
      runtime: {},
      forRepair: false,
    });
    return vhdx.facts(node).further ?? {};
  };

  it('are new in every file', () => {
    const [first, second] = [facts({}), facts({})];
    for (const name of ['virtual-disk-id', 'data-write-guid', 'file-write-guid']) {
      expect(first[name]).toMatch(/^[0-9a-f]{8}-/);
      expect(first[name]).not.toBe(second[name]);
    }
  });

  it('are those asked for', () => {
    const asked = {
      virtual_disk_id: '11111111-2222-4333-8444-555555555555',
      data_write_guid: '{AAAAAAAA-2222-4333-8444-555555555555}',
    };
    expect(facts(asked)).toMatchObject({
      'virtual-disk-id': '11111111-2222-4333-8444-555555555555',
      'data-write-guid': 'aaaaaaaa-2222-4333-8444-555555555555',
    });
  });
});

describe('measure', () => {
  const folder = scratchFolder('vhdx-measure');
  for (const options of [{}, { block_size: MiB }, { subformat: 'fixed' }, { log_size: 3 * MiB }] as Options[]) {
    it(`says how long the file becomes with ${JSON.stringify(options)}`, () => {
      const file = path.join(folder, 'x.vhdx');
      const runs = [
        { start: 0, length: 100 },
        { start: 9 * MiB - 10, length: 20 },
        { start: 9 * MiB + 4096, length: 5 * MiB },
        { start: 40 * MiB, length: 1 },
      ];
      const size = 41 * MiB;
      createImage(vhdx, file, { size, options });
      writing(file, (node) => {
        for (const run of runs) writeGuest(node, positionCoded(run.start, run.length, 1), run.start);
      });
      const measured = vhdx.measure?.({ size, options, backing: null, data: () => runs });
      expect(measured?.required).toBe(fs.statSync(file).size);
      writing(file, (node) => writeGuest(node, positionCoded(0, size, 1), 0));
      expect(measured?.fullyAllocated).toBe(fs.statSync(file).size);
    });
  }
});
