// The tests of one sample, wherever it comes from: what the command says of it, and that all readers agree.
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BlockNode } from '../../core/block/node.ts';
import { openImage } from '../../core/formats/open.ts';
import { type Finished, runPlatter } from '../peers.ts';
import { type MapEntry, type Sample, unpackSample } from './case.ts';
import { digestOfFile } from './digest.ts';
import {
  digestOfNode,
  Reference,
  wrongAtBoundaries,
  wrongInAwkwardRanges,
  wrongInMap,
  wrongPastTheEnd,
} from './readers.ts';

/** A refusal: exit 1, one short message and no stack, nothing on stdout. */
function expectRefusal(finished: Finished): void {
  expect(finished.status, finished.stderr).toBe(1);
  expect(finished.stdout).toBe('');
  expect(finished.stderr.trim()).not.toBe('');
  expect(finished.stderr.length).toBeLessThan(4096);
  expect(finished.stderr).not.toMatch(/^ {4}at /m);
}

/** Neighbours that continue each other become one entry, so that only the meaning is compared. */
function merged(map: readonly MapEntry[]): MapEntry[] {
  const out: MapEntry[] = [];
  for (const { start, length, depth, present, zero, data, offset } of map) {
    const last = out.at(-1);
    const entry = {
      start,
      length,
      depth,
      zero,
      data,
      ...(present === undefined ? {} : { present }),
      ...(offset === undefined ? {} : { offset }),
    };
    const continues =
      last !== undefined &&
      last.start + last.length === start &&
      last.depth === depth &&
      last.present === present &&
      last.zero === zero &&
      last.data === data &&
      (offset === undefined
        ? last.offset === undefined
        : last.offset !== undefined && last.offset + last.length === offset);
    if (continues) out[out.length - 1] = { ...last, length: last.length + length };
    else out.push(entry);
  }
  return out;
}

const comparedFacts = ['dirty-flag', 'cluster-size', 'backing-filename', 'full-backing-filename', 'encrypted'] as const;

type Json = Readonly<Record<string, unknown>>;

/** Declares the tests of `sample`; its files are unpacked into a folder of its own below `scratch`. */
export function describeSample(sample: Sample, scratch: string): void {
  const { about } = sample;
  const { expect: wanted } = about;
  describe(`${about.id} (${about.creator})`, () => {
    const folder = path.join(scratch, about.id);
    const command = (...args: string[]): Finished => runPlatter(args, { cwd: folder });
    const converted = 'converted.raw';
    const mayRefuse = wanted.open === 'refuse-or-read' || wanted.open === 'refuse-or-replay';
    let info: Finished;

    beforeAll(() => {
      fs.mkdirSync(folder);
      unpackSample(sample, folder);
      info = command('info', '--output=json', ...about.args, about.main);
    });
    afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

    if (wanted.open === 'refuse' || wanted.open === 'refuse-content') {
      it(
        wanted.open === 'refuse' ? 'is refused by info and convert' : 'is named by info and refused by convert',
        () => {
          if (wanted.open === 'refuse') expectRefusal(info);
          else expect(info.status, info.stderr).toBe(0);
          expectRefusal(command('convert', '-O', 'raw', ...about.args, about.main, converted));
          expect(fs.existsSync(path.join(folder, converted))).toBe(false);
        },
      );
      return;
    }

    it('info says what it is', () => {
      if (mayRefuse && info.status !== 0) return expectRefusal(info);
      expect(info.status, info.stderr).toBe(0);
      const found = JSON.parse(info.stdout) as Json;
      const sizes = [
        ...wanted.raw.map(({ size }) => size),
        ...(wanted.virtual_size === undefined ? [] : [wanted.virtual_size]),
      ];
      expect(found.format).toBe(about.format);
      expect(sizes).toContain(found['virtual-size']);
      for (const key of comparedFacts) {
        if (wanted.info !== undefined && key in wanted.info) expect(found[key], key).toEqual(wanted.info[key]);
      }
      const specific = (wanted.info?.['format-specific'] as { data?: Json } | undefined)?.data ?? {};
      const foundSpecific = (found['format-specific'] as { data?: Json } | undefined)?.data ?? {};
      for (const [key, value] of Object.entries(specific)) expect(foundSpecific[key], key).toEqual(value);
      if (Array.isArray(wanted.info?.snapshots)) expect(found.snapshots).toEqual(wanted.info.snapshots);
    });

    if (wanted.probe !== undefined && wanted.probe !== null) {
      it('is recognised without being told', () => {
        const probed = command('info', '--output=json', about.main);
        if (mayRefuse && probed.status !== 0) return expectRefusal(probed);
        expect(probed.status, probed.stderr).toBe(0);
        const { format } = JSON.parse(probed.stdout) as Json;
        expect([about.format, wanted.probe === 'raw' ? about.format : wanted.probe]).toContain(format);
      });
    }

    if (wanted.open === 'refuse-or-replay') {
      it('has the right content once its log is replayed', () => {
        const check = command('check', '-r', 'all', ...about.args, about.main);
        expect(check.status, check.stderr).toBe(0);
        const convert = command('convert', '-O', 'raw', ...about.args, about.main, converted);
        expect(convert.status, convert.stderr).toBe(0);
        expect(wanted.raw.map(({ sd64k }) => sd64k)).toContain(digestOfFile(path.join(folder, converted)).sd64k);
      });
      return;
    }
    if (mayRefuse) return;

    if (wanted.map_rc === 0) {
      it('map tells where its content lies', () => {
        const finished = command('map', '--output=json', ...about.args, about.main);
        expect(finished.status, finished.stderr).toBe(0);
        const map = JSON.parse(finished.stdout) as MapEntry[];
        expect(map.reduce((sum, { length }) => sum + length, 0)).toBe(wanted.virtual_size);
        // For VHDX qemu-img calls everything data; ours tells the truth, which the readers below prove.
        if (wanted.map !== undefined && about.format !== 'vhdx') expect(merged(map)).toEqual(merged(wanted.map));
      });
    }

    if (wanted.check_rc !== undefined) {
      it('check finds what there is to find', () => {
        const finished = command('check', '--output=json', ...about.args, about.main);
        // 63: qemu-img cannot check this format at all; we do.
        const statuses = wanted.check_rc === 63 ? [63, 0] : [wanted.check_rc];
        expect(statuses, finished.stderr).toContain(finished.status);
        if (wanted.check_rc === 63 || wanted.check === undefined || wanted.check === null) return;
        const found = JSON.parse(finished.stdout) as Json;
        for (const key of ['corruptions', 'leaks', 'check-errors']) expect(found[key], key).toEqual(wanted.check[key]);
      });
    }

    for (const [name, digest] of Object.entries(wanted.snapshots ?? {})) {
      it(`convert -l '${name}' gives the content of the snapshot`, () => {
        const convert = command('convert', '-O', 'raw', ...about.args, '-l', name, about.main, 'snapshot.raw');
        expect(convert.status, convert.stderr).toBe(0);
        expect(digestOfFile(path.join(folder, 'snapshot.raw')).sd64k).toBe(digest);
      });
    }

    if (wanted.noconvert === true || wanted.raw.length === 0) return;
    describe('content', () => {
      const opening = openingOf(about.args);
      let node: BlockNode;
      let reference: Reference;

      beforeAll(() => {
        const convert = command('convert', '-O', 'raw', ...about.args, about.main, converted);
        expect(convert.status, convert.stderr).toBe(0);
        reference = new Reference(path.join(folder, converted));
        node = openImage(path.join(folder, about.main), opening).node;
      });
      afterAll(() => {
        reference?.close();
        node?.close();
      });

      const digests = wanted.raw.map(({ sd64k }) => sd64k);
      it('is right after convert', () => {
        expect(digests).toContain(digestOfFile(path.join(folder, converted)).sd64k);
      });
      it('is right when read whole', () => {
        expect(digests).toContain(digestOfNode(node, 1024 * 1024).sd64k);
      });
      it('is right in awkward ranges', () => {
        if (node.size <= 64 * 1024 * 1024) expect(digests).toContain(digestOfNode(node, 65_521).sd64k);
        expect(wrongInAwkwardRanges(node, reference)).toBeNull();
      });
      it('is right round each boundary of its map', () => {
        expect(wrongInMap(node)).toBeNull();
        expect(wrongAtBoundaries(node, reference)).toBeNull();
      });
      it('ends where the disk ends', () => {
        expect(wrongPastTheEnd(node)).toBeNull();
      });
    });
  });
}

/** What `-f FORMAT` before the name asks for; other options are not expected in a sample. */
function openingOf(args: readonly string[]): { format: string | null } {
  if (args.length === 0) return { format: null };
  if (args.length === 2 && args[0] === '-f' && args[1] !== undefined) return { format: args[1] };
  throw new Error(`a sample with the options ${args.join(' ')}`);
}
