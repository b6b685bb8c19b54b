// Every sample, damaged ones included, as the window opens it: bytes, regions, fields and maps come, and what cannot be told is marked.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { isImageError } from '../../core/errors/image-error.ts';
import { findDriver } from '../../core/formats/registry.ts';
import type { AnnotatedWindow, ImageSession, RegionFacts } from '../../core/workbench/contract.ts';
import { makeFence } from '../../core/workbench/fence.ts';
import { questionsAbout, type MapAnswer, type Questions } from '../../core/workbench/images/image-thread.ts';
import type { MapLayer } from '../../core/workbench/map/classes.ts';
import type { MapPlace } from '../../core/workbench/map/image-map.ts';
import { levelFor } from '../../core/workbench/map/tile.ts';
import { missing, sharedFolder } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';
import { samplesIn, unpackSample, type Sample } from './case.ts';

const root = import.meta.dirname;
const own = fs
  .readdirSync(root, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .flatMap(({ name }) => samplesIn(path.join(root, name)));
const shared = missing({ shared: true, peers: ['bzip2'] }) === null ? sharedFolder() : null;
const samples = [...own, ...(shared === null ? [] : samplesIn(path.join(shared, 'images')))].filter(
  ({ about }) => findDriver(about.format) !== null,
);

/** Answers that only tell how far the thread has come, one after the other, at most. */
const patience = 200;
const cells = 64;
/** Stretches of the guest's disk that are looked at one by one. */
const stretches = 100;

/** What the thread of an image would answer; asked here, as a thread for each sample takes longer than all its answers. */
function look(sample: Sample, folder: string): Questions {
  const { main, format } = sample.about;
  return questionsAbout({
    image: { path: path.join(folder, main), format, trust: 'policy', allow: [], secret: null },
    secrets: {},
    fence: makeFence(null, false),
    gate: { rule: 'allow', allowed: [], denied: [] },
    lenient: true,
  });
}

/** Asks until it is the last word. */
function settled<T>(ask: () => T, isSettled: (answer: T) => boolean): T {
  for (let count = 0; count < patience; count++) {
    const answer = ask();
    if (isSettled(answer)) return answer;
  }
  throw new Error('it is never settled');
}

/** The exact map of a view in few cells: each of them is of some class, and the classes add up to the size. Gives what is unreadable. */
function unreadableIn(questions: Questions, view: string, layer: MapLayer, size: number, unit: number): number {
  const request = { level: levelFor(size, unit, cells), first: 0, cells };
  const answer = settled(
    () => questions.map(view, layer, request),
    ({ refined }: MapAnswer) => refined,
  );
  expect(
    answer.totals.reduce((sum, bytes) => sum + bytes, 0),
    `${view} ${layer}`,
  ).toBe(size);
  const shown = Math.ceil(size / (unit * 2 ** request.level));
  for (let cell = 0; cell < shown; cell++) {
    const share = answer.classes.reduce((sum, _, index) => sum + (answer.shares[index * cells + cell] ?? 0), 0);
    expect(share, `${view} ${layer} cell ${cell}`).toBeGreaterThan(250);
  }
  const unreadable = answer.totals[answer.classes.indexOf('unreadable')] ?? 0;
  if (unreadable > 0) expect(answer.fault?.text).toEqual(expect.any(String));
  return unreadable;
}

/** The regions follow each other from the first byte of the file to the last. */
function expectCovered(questions: Questions, role: string, length: number): void {
  let at = 0;
  settled(
    () => questions.regions(role, at, 500, false) as { regions: RegionFacts[]; next: number | null },
    ({ regions, next }) => {
      for (const region of regions) {
        expect(region, region.label).toMatchObject({ start: at });
        expect(region.length, region.label).toBeGreaterThan(0);
        at = region.start + region.length;
      }
      return next === null;
    },
  );
  expect(at).toBe(length);
}

/** What the map calls unreadable cannot be read and says why; everything else can be. */
function expectReadableAsShown(questions: Questions, size: number): void {
  let at = 0;
  for (let count = 0; at < size && count < stretches; count++) {
    const place = questions.describe('guest', at) as MapPlace;
    const read = (): Uint8Array => questions.bytes('guest', at, 512);
    if (place.kind === 'unreadable') {
      expect(place.fault?.text).toEqual(expect.any(String));
      expect(read).toThrow();
    } else {
      expect(place.fault).toBeNull();
      expect(readOrFault(read), `${at} ${place.kind}`).toBe('');
    }
    at += place.length;
  }
}

function readOrFault(read: () => Uint8Array): string {
  try {
    read();
    return '';
  } catch (error) {
    if (isImageError(error)) return error.message;
    throw error;
  }
}

describe('what the window sees of the samples', () => {
  const scratch = scratchFolder('seen');

  it.each(samples.map((sample): [string, Sample] => [sample.about.id, sample]))('%s', async (name, sample) => {
    const folder = path.join(scratch, name);
    fs.mkdirSync(folder);
    unpackSample(sample, folder);
    const questions = look(sample, folder);
    const { files, guestSize, reduced, mapUnits, info } = (await questions.open()) as Omit<ImageSession, 'id'>;
    for (const { role, length } of files) {
      expect(questions.bytes(role, 0, 512)).toHaveLength(Math.min(512, length));
      expectCovered(questions, role, length);
      if (length === 0) continue;
      const window = settled(
        () => questions.annotations(role, 0, 4096) as AnnotatedWindow,
        ({ pending }) => !pending,
      );
      expect(window.regions.length).toBeGreaterThan(0);
      unreadableIn(questions, role, 'kinds', length, mapUnits.file);
    }
    const unreadable = guestSize === 0 ? 0 : unreadableIn(questions, 'guest', 'state', guestSize, mapUnits.guest);
    expectReadableAsShown(questions, guestSize);
    const { open = 'read' } = sample.about.expect;
    if (open === 'read') {
      expect({ reduced, unreadable }).toEqual({ reduced: null, unreadable: 0 });
      expect(info).not.toBeNull();
    } else if (open.startsWith('refuse') && !open.includes('-or-')) {
      // What is refused is opened in part, or its map says what cannot be read: both with the reason.
      expect((reduced?.text ?? '') !== '' || unreadable > 0).toBe(true);
    }
    fs.rmSync(folder, { recursive: true, force: true });
  });
});
