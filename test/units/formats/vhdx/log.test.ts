// The log: which entries count, what they change; replayed in memory by readers, on the disk by writers, and by qemu-img.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { isWritable } from '../../../../core/block/node.ts';
import { readGuest } from '../../../../core/block/read.ts';
import { KiB, MiB } from '../../../../core/block/units.ts';
import { writeGuest } from '../../../../core/block/write.ts';
import { vhdx } from '../../../../core/formats/vhdx/driver.ts';
import { activeSequence } from '../../../../core/formats/vhdx/log.ts';
import { sectorsPerEntry } from '../../../../core/formats/vhdx/log-writer.ts';
import { readHeaderSection } from '../../../../core/formats/vhdx/header.ts';
import { zeroGuid } from '../../../../core/formats/vhdx/spec.ts';
import { missing, mustRun, runQemuImg } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { processorTime } from '../../../processor-time.ts';
import { scratchFolder } from '../../../scratch.ts';
import { checkOf, contentOf, regionsOf } from '../new-image.ts';
import { batOffset, batSector, openBytes, openStorage, putLog, setHeaders, smallImage, type Entry } from './crafted.ts';

const folder = scratchFolder('vhdx-log');
const noPeer = missing({ peers: ['qemu-img'] });

/** The guest's disk by qemu-img, which replays the log first. */
function byQemu(image: Uint8Array): Uint8Array {
  const file = path.join(folder, 'x.vhdx');
  const raw = path.join(folder, 'x.raw');
  fs.writeFileSync(file, image);
  const repair = runQemuImg(['check', '-r', 'all', '-f', 'vhdx', file]);
  if (repair.status !== 0) throw new Error(repair.stderr);
  mustRun('qemu-img', ['convert', '-f', 'vhdx', '-O', 'raw', file, raw]);
  return fs.readFileSync(raw);
}

/** Read by us with the log in memory, by us after a writer, and by qemu-img: all the same. */
function contentOfAll(image: Uint8Array): Uint8Array {
  const node = openBytes(image);
  const content = contentOf(node);
  regionsOf(vhdx, node);
  node.close();
  const storage = new MemoryStorage(image, 'crafted.vhdx');
  openStorage(storage).close();
  const section = readHeaderSection(storage);
  expect(section.header.LogGuid).toBe(zeroGuid);
  const after = openBytes(storage.bytes());
  expect(difference(contentOf(after), content)).toBeNull();
  expect(checkOf(vhdx, after).findings).toEqual([]);
  if (noPeer === null) expect(difference(byQemu(image), content)).toBeNull();
  return content;
}

function fail(): never {
  throw new Error('no other file is expected');
}

const before = new Uint8Array(8 * MiB);
before.set(positionCoded(0, MiB, 1), 0);
before.set(positionCoded(2 * MiB, MiB, 1), 2 * MiB);

/** Blocks 0 and 2 change places. */
function swapped(): Uint8Array {
  const content = new Uint8Array(8 * MiB);
  content.set(positionCoded(2 * MiB, MiB, 1), 0);
  content.set(positionCoded(0, MiB, 1), 2 * MiB);
  return content;
}

const placeOf0 = 4 * MiB;
const placeOf2 = 5 * MiB;

function swap(image: Uint8Array, entry: Partial<Entry> = {}): Entry {
  const bytes = batSector(image, { 0: [6, placeOf2], 2: [6, placeOf0] });
  return { at: 0, sequence: 1n, changes: [{ kind: 'data', offset: batOffset, bytes }], ...entry };
}

describe('the log of a VHDX', () => {
  it('is replayed by readers, writers, and qemu-img alike', () => {
    const image = smallImage();
    expect(difference(contentOfAll(image), before)).toBeNull();
    putLog(image, [swap(image)]);
    expect(difference(contentOfAll(image), swapped())).toBeNull();
  });

  it('is told in the facts, by the check, and in the regions', () => {
    const image = smallImage();
    putLog(image, [swap(image, { at: 64 * KiB })]);
    const node = openBytes(image);
    expect(vhdx.facts(node)).toMatchObject({ dirty: true, further: { log: { 'entries-to-replay': 1 } } });
    expect(checkOf(vhdx, node).findings.map(({ code }) => code)).toEqual(['vhdx/check-log-pending']);
    const entry = [...vhdx.regions(node)].find(({ label }) => label === 'log entry 1');
    expect(entry).toMatchObject({ start: MiB + 64 * KiB, length: 8 * KiB, kind: 'log' });
    const fields = entry?.annotate({ start: MiB + 64 * KiB, length: 8 * KiB }).map(({ field }) => field);
    expect(fields).toContain('FlushedFileOffset');
    expect(fields).toContain('LeadingBytes');
    expect(fields).toContain('SequenceLow');
  });

  it('may go around its end', () => {
    const image = smallImage();
    putLog(image, [swap(image, { at: MiB - 4 * KiB })]);
    expect(difference(contentOf(openBytes(image)), swapped())).toBeNull();
    const node = openBytes(image);
    const entries = [...vhdx.regions(node)].filter(({ label }) => label === 'log entry 1');
    expect(entries.map(({ start }) => start)).toEqual([MiB, 2 * MiB - 4 * KiB]);
  });

  it('applies its entries in order, the last one last', () => {
    const image = smallImage();
    const away = batSector(image, { 0: [2, 0], 2: [2, 0] });
    putLog(image, [
      { at: 0, sequence: 7n, changes: [{ kind: 'data', offset: batOffset, bytes: away }], tail: 0 },
      swap(image, { at: 8 * KiB, sequence: 8n, tail: 0 }),
    ]);
    expect(difference(contentOfAll(image), swapped())).toBeNull();
    putLog(image, [
      swap(image, { at: 0, sequence: 9n, tail: 0 }),
      { at: 8 * KiB, sequence: 10n, changes: [{ kind: 'data', offset: batOffset, bytes: away }], tail: 0 },
    ]);
    expect(difference(contentOfAll(image), new Uint8Array(8 * MiB))).toBeNull();
  });

  it('makes stretches zero', () => {
    const image = smallImage();
    putLog(image, [
      {
        at: 0,
        sequence: 1n,
        changes: [
          { kind: 'zero', offset: placeOf0 + 64 * KiB, length: 128 * KiB },
          { kind: 'data', offset: placeOf0 + 96 * KiB, bytes: positionCoded(0, 4 * KiB, 9) },
          { kind: 'data', offset: placeOf2, bytes: positionCoded(0, 4 * KiB, 9) },
          { kind: 'zero', offset: placeOf2, length: 8 * KiB },
          { kind: 'zero', offset: placeOf2 + 512 * KiB, length: 0 },
        ],
      },
    ]);
    const model = before.slice();
    model.fill(0, 64 * KiB, 192 * KiB);
    model.set(positionCoded(0, 4 * KiB, 9), 96 * KiB);
    model.fill(0, 2 * MiB, 2 * MiB + 8 * KiB);
    expect(difference(contentOfAll(image), model)).toBeNull();
    // At odd places and lengths too.
    const node = openBytes(image);
    for (const [start, length] of [
      [64 * KiB - 1, 3],
      [96 * KiB - 7, 5000],
      [100 * KiB - 1, 2],
      [2 * MiB + 8191, 2],
    ] as const) {
      const found = new Uint8Array(length);
      readGuest(node, found, start);
      expect(difference(found, model.subarray(start, start + length), start)).toBeNull();
    }
  });

  it('makes the file longer where it says so', () => {
    const image = smallImage();
    const bytes = batSector(image, { 5: [6, image.length] });
    const last = image.length + MiB;
    putLog(image, [{ at: 0, sequence: 1n, last, changes: [{ kind: 'data', offset: batOffset, bytes }] }]);
    const node = openBytes(image);
    expect(difference(contentOf(node), before)).toBeNull();
    expect(checkOf(vhdx, node).findings.map(({ code }) => code)).toEqual(['vhdx/check-log-pending']);
    const storage = new MemoryStorage(image, 'crafted.vhdx');
    vhdx
      .open(storage, {
        writable: true,
        gate: { openImage: fail, openFile: fail },
        withBacking: true,
        runtime: {},
        forRepair: false,
      })
      .close();
    expect(storage.size).toBe(last);
  });

  it('of which the newest sequence counts, whatever lies behind it', () => {
    const image = smallImage();
    const away = batSector(image, { 0: [2, 0], 2: [2, 0] });
    putLog(image, [
      { at: 0, sequence: 3n, changes: [{ kind: 'data', offset: batOffset, bytes: away }] },
      swap(image, { at: 64 * KiB, sequence: 5n }),
      { at: 128 * KiB, sequence: 2n, changes: [{ kind: 'data', offset: batOffset, bytes: away }] },
    ]);
    expect(difference(contentOfAll(image), swapped())).toBeNull();
  });

  it('counts from the tail of its last entry on', () => {
    const image = smallImage();
    const away = batSector(image, { 0: [2, 0] });
    putLog(image, [
      { at: 0, sequence: 3n, changes: [{ kind: 'zero', offset: placeOf0, length: MiB }] },
      { at: 4 * KiB, sequence: 4n, tail: 4 * KiB, changes: [{ kind: 'data', offset: batOffset, bytes: away }] },
    ]);
    const storage = new MemoryStorage(image);
    const sequence = activeSequence(storage, readHeaderSection(storage).header);
    expect(sequence?.entries.map(({ header }) => header.SequenceNumber)).toEqual([4n]);
  });

  const invalid: Readonly<Record<string, Partial<Entry>>> = {
    'of another log': { guid: '99999999-1234-4234-8234-123456789abc' },
    'with the number zero': { sequence: 0n },
    'whose tail is not in its sequence': { tail: 512 * KiB },
    'whose tail lies outside the log': { tail: 2 * MiB },
    'with another signature': { spoil: { DescriptorCount: 2 } },
    'shorter than its parts': { spoil: { EntryLength: 4 * KiB } },
    'longer than its parts': { spoil: { EntryLength: 12 * KiB } },
    'longer than the log': { spoil: { EntryLength: 2 * MiB } },
    'of an odd length': { spoil: { EntryLength: 8 * KiB + 512 } },
    'with more descriptors than it has room for': { spoil: { DescriptorCount: 0xffff_ffff } },
    'that writes to a header': { changes: [{ kind: 'data', offset: 64 * KiB, bytes: new Uint8Array(4096) }] },
    'that writes to the log': { changes: [{ kind: 'zero', offset: MiB + 64 * KiB, length: 4 * KiB }] },
    'that writes over the log': { changes: [{ kind: 'zero', offset: 256 * KiB, length: 4 * MiB }] },
    'that writes to an odd place': {
      changes: [{ kind: 'data', offset: batOffset + 512, bytes: new Uint8Array(4096) }],
    },
    'that zeroes an odd length': { changes: [{ kind: 'zero', offset: batOffset, length: 5000 }] },
  };
  for (const [name, entry] of Object.entries(invalid)) {
    it(`does not count an entry ${name}`, () => {
      const image = smallImage();
      putLog(image, [swap(image, entry)]);
      const node = openBytes(image);
      expect(difference(contentOf(node), before)).toBeNull();
      expect(checkOf(vhdx, node).findings.map(({ code }) => code)).toEqual(['vhdx/check-log-empty']);
      const storage = new MemoryStorage(image, 'crafted.vhdx');
      openStorage(storage).close();
      expect(checkOf(vhdx, openBytes(storage.bytes())).findings).toEqual([]);
    });
  }

  it('does not count an entry with one wrong byte anywhere', () => {
    const image = smallImage();
    putLog(image, [swap(image)]);
    for (let at = MiB; at < MiB + 8 * KiB; at += 97) {
      const broken = image.slice();
      broken[at] = (broken[at] ?? 0) ^ 4;
      const found = new Uint8Array(4096);
      readGuest(openBytes(broken), found, 0);
      expect(difference(found, before.subarray(0, 4096)), String(at)).toBeNull();
    }
  });

  it('of a file that was cut short is refused', () => {
    const image = smallImage();
    putLog(image, [swap(image, { flushed: image.length + MiB })]);
    for (const writable of [false, true]) {
      expect(() => openBytes(image, writable)).toThrow(expect.objectContaining({ code: 'vhdx/log-truncated' }));
    }
    if (noPeer === null) {
      const file = path.join(folder, 'cut.vhdx');
      fs.writeFileSync(file, image);
      expect(runQemuImg(['check', '-r', 'all', '-f', 'vhdx', file]).status).not.toBe(0);
    }
  });

  it('that writes beyond the file it describes is refused', () => {
    const image = smallImage();
    for (const change of [
      { kind: 'zero', offset: image.length, length: 2 ** 50 },
      { kind: 'data', offset: 2 ** 46, bytes: new Uint8Array(4096) },
    ] as const) {
      const other = image.slice();
      putLog(other, [swap(image, { changes: [change] })]);
      for (const writable of [false, true]) {
        expect(() => openBytes(other, writable)).toThrow(expect.objectContaining({ code: 'vhdx/log-outside' }));
      }
    }
    putLog(image, [swap(image, { last: 2 ** 52 })]);
    expect(() => openBytes(image, true)).toThrow(expect.objectContaining({ code: 'vhdx/log-outside' }));
  });

  const places: Readonly<Record<string, Parameters<typeof setHeaders>[1]>> = {
    'in the header section': { LogOffset: 0 },
    'at an odd place': { LogOffset: MiB + 4096 },
    'beyond the file': { LogOffset: 1024 * MiB },
    'of an odd length': { LogLength: MiB + 4096 },
    'of no length and a GUID': { LogLength: 0, LogGuid: '12345678-1234-4234-8234-123456789abc' },
    'of 4 GiB': { LogLength: 0xfff0_0000 },
  };
  for (const [name, changes] of Object.entries(places)) {
    it(`is refused ${name}`, () => {
      const image = smallImage();
      setHeaders(image, changes);
      expect(() => openBytes(image)).toThrow(expect.objectContaining({ code: 'vhdx/log-place' }));
    });
  }

  it('of another version is refused', () => {
    const image = smallImage();
    setHeaders(image, { LogVersion: 1 });
    expect(() => openBytes(image)).toThrow(expect.objectContaining({ code: 'vhdx/log-version' }));
  });

  it('is searched in time that grows with its length only', () => {
    // Every sector looks like the start of an entry that takes the rest of the log.
    const image = smallImage({ log_size: 8 * MiB });
    const large = entryOfZeroes(8 * MiB);
    for (let at = MiB; at < 9 * MiB; at += 4 * KiB) image.set(large, at);
    setHeaders(image, { LogGuid: '12345678-1234-4234-8234-123456789abc' });
    const begin = processorTime();
    openBytes(image).close();
    expect(processorTime() - begin).toBeLessThan(2000);
  });
});

function entryOfZeroes(length: number): Uint8Array {
  const sector = new Uint8Array(4096);
  const view = new DataView(sector.buffer);
  view.setUint32(0, 0x65676f6c, true);
  view.setUint32(8, length, true);
  view.setBigUint64(16, 1n, true);
  view.setUint32(24, (length - 64) / 32, true);
  sector.set([0x78, 0x56, 0x34, 0x12, 0x34, 0x12, 0x34, 0x42, 0x82, 0x34, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc], 32);
  for (let at = 64; at < 4096; at += 32) {
    view.setUint32(at, 0x6f72657a, true);
    view.setBigUint64(at + 16, BigInt(4 * MiB), true);
    view.setBigUint64(at + 24, 1n, true);
  }
  return sector;
}

describe('our own log', () => {
  it('takes entries of which two fit', () => {
    for (const length of [MiB, 2 * MiB, 64 * MiB]) {
      const sectors = sectorsPerEntry(length);
      expect(sectors).toBeGreaterThan(100);
      expect(2 * (sectors + Math.ceil((64 + 32 * sectors) / 4096)) * 4096).toBeLessThanOrEqual(length);
    }
  });

  it('is written in rounds where there is more than one entry takes', () => {
    // 1 MiB blocks, 512 of them per sector of the BAT: 200 sectors are two rounds.
    const image = new MemoryStorage(smallImage(), 'crafted.vhdx');
    image.truncate(0);
    const blocks = 512 * 200;
    vhdx.create?.({
      storage: image,
      name: 'crafted.vhdx',
      size: blocks * MiB,
      options: { block_size: MiB, block_state_zero: false },
      backing: null,
      createFile: fail,
      job: { progress: () => {}, throwIfCancelled: () => {} },
    });
    const open = {
      writable: true,
      gate: { openImage: fail, openFile: fail },
      withBacking: true,
      runtime: {},
      forRepair: false,
    };
    const node = vhdx.open(image, open);
    if (!isWritable(node)) throw new Error('not writable');
    for (let block = 0; block < blocks; block += 512) {
      node.reserve({ start: block * MiB, length: 512 });
      node.reserve({ start: block * MiB, length: 512 }).publish();
    }
    node.flush();
    writeGuest(node, positionCoded(0, 512, 3), 0);
    node.flush();
    node.close();
    const again = openBytes(image.bytes());
    expect(checkOf(vhdx, again).findings).toEqual([]);
    let present = 0;
    for (let block = 0; block < blocks; block++) {
      if (again.map({ start: block * MiB, length: 512 }).kind === 'data') present++;
    }
    expect(present).toBe(200);
  });
});
