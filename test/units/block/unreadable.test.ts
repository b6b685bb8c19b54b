// Images whose parent is lost, is another now, or may not be opened: what is their own is read, what is not known is refused with the reason.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BlockNode } from '../../../core/block/node.ts';
import { readGuest, resolve } from '../../../core/block/read.ts';
import { isUnread, readReadable, survey } from '../../../core/block/survey.ts';
import { KiB, MiB } from '../../../core/block/units.ts';
import { writeGuest } from '../../../core/block/write.ts';
import { isImageError } from '../../../core/errors/image-error.ts';
import type { FormatDriver } from '../../../core/formats/driver.ts';
import { followFiles, followNothing } from '../../../core/formats/gate.ts';
import { openImage, type OpenOptions, type Reduction } from '../../../core/formats/open.ts';
import { driverNamed } from '../../../core/formats/registry.ts';
import { describeWith } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';
import { createImage, writing } from '../formats/new-image.ts';

const size = 8 * MiB;
const own = { start: 5 * MiB, length: 64 * KiB };
const inherited = { start: MiB, length: MiB };

interface Seen {
  readonly heard: readonly Reduction[];
  readonly unread: readonly { start: number; length: number; code: string }[];
  readonly node: BlockNode;
}

function look(file: string, options: OpenOptions = {}): Seen {
  const heard: Reduction[] = [];
  const { node } = openImage(file, { ...options, lenient: (reduction) => heard.push(reduction) });
  const unread: { start: number; length: number; code: string }[] = [];
  for (const found of survey(node)) {
    if (!isUnread(found)) continue;
    const last = unread.at(-1);
    if (last !== undefined && last.start + last.length === found.start) last.length += found.length;
    else unread.push({ start: found.start, length: found.length, code: found.error.code });
  }
  return { heard, unread, node };
}

/** A parent with 0xAA in its second MiB, an overlay with 0xBB at 5 MiB; the overlay's name and what its disk holds. */
function makeChain(folder: string, driver: FormatDriver, subformat: Record<string, string> = {}): [string, Buffer] {
  const ending = driver.extensions[0] ?? driver.id;
  const names = ['base', 'top'].map((name) => path.join(folder, `${name}.${ending}`)) as [string, string];
  createImage(driver, names[0], { size, options: subformat });
  writing(names[0], (node) => writeGuest(node, new Uint8Array(inherited.length).fill(0xaa), inherited.start));
  createImage(driver, names[1], { size, backing: path.basename(names[0]) });
  writing(names[1], (node) => writeGuest(node, new Uint8Array(own.length).fill(0xbb), own.start));
  const expected = Buffer.alloc(size);
  expected.fill(0xaa, inherited.start, inherited.start + inherited.length);
  expected.fill(0xbb, own.start, own.start + own.length);
  return [names[1], expected];
}

/** What is shown as readable is right, what is not is refused with a code by every reader. */
function expectHonest({ node, unread }: Seen, expected: Buffer): void {
  // A VHD is as large as its geometry.
  const bytes = new Uint8Array(node.size);
  const lost = readReadable(node, bytes, 0);
  expect(lost.reduce((sum, { length }) => sum + length, 0)).toBe(unread.reduce((sum, { length }) => sum + length, 0));
  const whole = Buffer.concat([expected], node.size);
  let at = 0;
  for (const gap of [...unread, { start: node.size, length: 0 }]) {
    expect(Buffer.compare(bytes.subarray(at, gap.start), whole.subarray(at, gap.start)), `${at}-${gap.start}`).toBe(0);
    at = gap.start + gap.length;
  }
  for (const { start, length } of unread) {
    for (const place of [start, start + length - 1]) {
      expect(() => readGuest(node, new Uint8Array(1), place)).toThrow(expect.toSatisfy((error) => isImageError(error)));
    }
  }
  expect(() => [...resolve(node)]).toThrow();
}

const formats = ['qcow2', 'qcow', 'vpc', 'vhdx', 'vdi', 'vmdk'];

describe.each(formats)('%s over a parent that cannot be read', (id) => {
  const scratch = scratchFolder(`unreadable-${id}`);
  const driver = driverNamed(id);
  const within = (unread: Seen['unread'], start: number, length: number): boolean =>
    unread.some((gap) => gap.start <= start && gap.start + gap.length >= start + length);

  it('lost: what should come from it is unreadable, with the reason', () => {
    const [top, expected] = makeChain(fs.mkdtempSync(path.join(scratch, 'lost-')), driver);
    const base = path.join(
      path.dirname(top),
      fs.readdirSync(path.dirname(top)).find((name) => name.startsWith('base')) ?? '',
    );
    const whole = look(top);
    expect({ heard: whole.heard, unread: whole.unread }).toEqual({ heard: [], unread: [] });
    whole.node.close();
    fs.rmSync(base);
    expect(() => openImage(top)).toThrow();
    const seen = look(top);
    expect(seen.heard).toMatchObject([{ what: 'below', file: top, depth: 0 }]);
    expect(within(seen.unread, inherited.start, inherited.length)).toBe(true);
    expect(within(seen.unread, 0, 512)).toBe(true);
    expect(seen.unread.some(({ start, length }) => start < own.start + own.length && start + length > own.start)).toBe(
      false,
    );
    expect(seen.unread.every(({ code }) => code === seen.heard[0]?.reason.code)).toBe(true);
    expectHonest(seen, expected);
    seen.node.close();
  });

  it('not allowed: the same, with the gate’s reason', () => {
    const [top, expected] = makeChain(fs.mkdtempSync(path.join(scratch, 'gate-')), driver);
    const seen = look(top, { policy: { ...followFiles, refuse: (reference) => followNothing.refuse(reference) } });
    expect(seen.heard).toMatchObject([{ what: 'below', reason: { code: 'gate/refused' } }]);
    expect(within(seen.unread, inherited.start, inherited.length)).toBe(true);
    expectHonest(seen, expected);
    seen.node.close();
  });

  it('below another image: only what should come from the lost one is unreadable', () => {
    const folder = fs.mkdtempSync(path.join(scratch, 'three-'));
    const [middle, expected] = makeChain(folder, driver);
    const top = path.join(folder, `third${path.extname(middle)}`);
    createImage(driver, top, { size, backing: path.basename(middle) });
    writing(top, (node) => writeGuest(node, new Uint8Array(512).fill(0xcc), 7 * MiB));
    expected.fill(0xcc, 7 * MiB, 7 * MiB + 512);
    fs.rmSync(path.join(folder, `base${path.extname(middle)}`));
    const seen = look(top);
    expect(seen.heard).toMatchObject([{ what: 'below', depth: 1 }]);
    expect(seen.heard[0]?.file).toContain('top.');
    expect(within(seen.unread, inherited.start, inherited.length)).toBe(true);
    expect(seen.unread.some(({ start, length }) => start < own.start + own.length && start + length > own.start)).toBe(
      false,
    );
    expectHonest(seen, expected);
    seen.node.close();
  });

  if (id.startsWith('qcow')) return; // they know their parents by name only
  it('another than it was: its bytes are not shown', () => {
    const folder = fs.mkdtempSync(path.join(scratch, 'other-'));
    const [top, expected] = makeChain(folder, driver);
    const base = path.join(folder, `base${path.extname(top)}`);
    createImage(driver, base, { size });
    writing(base, (node) => writeGuest(node, new Uint8Array(512).fill(0xee), inherited.start));
    const seen = look(top);
    expect(seen.heard).toMatchObject([{ what: 'below', depth: 0 }]);
    expect(seen.heard[0]?.reason.code).toMatch(/parent-(changed|other|missing)/);
    expect(within(seen.unread, inherited.start, inherited.length)).toBe(true);
    expectHonest(seen, expected);
    seen.node.close();
  });
});

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'beside qemu-img', () => {
  const scratch = scratchFolder('unreadable-qemu');

  it.each(['qcow2', 'qcow', 'qed', 'vmdk'])('%s: unreadable is what qemu-img says comes from below', (format) => {
    const folder = fs.mkdtempSync(path.join(scratch, `${format}-`));
    const [base, top, raw] = ['base', 'top', 'raw'].map((name) => path.join(folder, name)) as [string, string, string];
    const qemu = (...args: string[]): string => execFileSync('qemu-img', args, { encoding: 'utf8' });
    const io = (file: string, ...commands: string[]): void => {
      execFileSync('qemu-io', ['-f', format, ...commands.flatMap((command) => ['-c', command]), file]);
    };
    qemu('create', '-q', '-f', format, base, '8M');
    io(base, 'write -P 0xaa 1M 1M', 'write -P 0xad 4M 2M');
    qemu('create', '-q', '-f', format, '-b', base, '-F', format, top);
    io(top, 'write -P 0xbb 5M 192k', 'write -P 0xbc 1280k 64k');
    qemu('convert', '-f', format, '-O', 'raw', top, raw);
    const map = JSON.parse(qemu('map', '--output=json', '-f', format, top)) as {
      start: number;
      length: number;
      depth: number;
      present: boolean;
    }[];
    const ownRanges = map.filter(({ depth, present }) => depth === 0 && present);
    fs.rmSync(base);
    const seen = look(top);
    expectHonest(seen, fs.readFileSync(raw));
    const readable = size - seen.unread.reduce((sum, { length }) => sum + length, 0);
    expect(readable).toBe(ownRanges.reduce((sum, { length }) => sum + length, 0));
    for (const { start } of ownRanges) readGuest(seen.node, new Uint8Array(512), start);
    seen.node.close();
  });
});
