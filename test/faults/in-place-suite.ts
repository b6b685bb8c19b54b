// What is expected of every verb that changes images in place: a step fails, or the process is killed, at any moment; what is left is old or new, and undo brings back the old.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readRun, resolve } from '../../core/block/read.ts';
import { writeGuest } from '../../core/block/write.ts';
import { listenToJournals } from '../../core/block/journal/notices.ts';
import { isWritable } from '../../core/block/node.ts';
import { openImage } from '../../core/formats/open.ts';
import { describeWith, itWith, mustRun, runQemuImg } from '../peers.ts';
import { positionCoded } from '../position-coded.ts';
import { scratchFolder } from '../scratch.ts';
import { chosenSeed, SeededRandom } from '../seeded-random.ts';
import { cannotKill, Copies } from './copies.ts';
import { damage } from './damages.ts';
import { withFailingFiles } from './failing-files.ts';
import type { Order, Outcome } from './forking.ts';
import type { Moment } from './kill-at.ts';
import { fillings, verbRows, type VerbRow } from './verbs.ts';

const long = process.env.PLATTER_LONG === '1';
/** For each verb in the long mode, over all its rows. */
const killsPerVerb = Number(process.env.PLATTER_KILLS ?? 300);

function killsOf(row: VerbRow): number {
  const rows = verbRows.filter(({ argv }) => argv[0] === row.argv[0]);
  return Math.ceil(killsPerVerb / rows.length);
}

/** Of `undo`, for each row in the long mode. */
const undoKills = Math.ceil(killsPerVerb / verbRows.filter(({ undo }) => undo !== null).length);

const checkedByQemu = ['qcow2', 'vmdk', 'vdi', 'vhdx'];

/** What the guest sees: the size, and every 4 KiB that are not zeroes with their place. */
function contentOf(file: string, format: string, forRepair: boolean): string {
  const { node } = openImage(file, { format, forRepair });
  const hash = createHash('sha256').update(String(node.size));
  try {
    for (const run of resolve(node)) {
      if (run.mapping.kind === 'zero') continue;
      const bytes = new Uint8Array(run.length);
      readRun(run, bytes);
      for (let at = 0; at < bytes.length;) {
        // Blocks of the disk, not of the run: how a format cuts it must not matter.
        const next = Math.min(bytes.length, at + 4096 - ((run.start + at) % 4096));
        const block = bytes.subarray(at, next);
        for (let i = 0; i < block.length; i += 512) {
          const sector = block.subarray(i, i + 512);
          if (sector.some((byte) => byte !== 0)) hash.update(`@${run.start + at + i}`).update(sector);
        }
        at = next;
      }
    }
  } finally {
    node.close();
  }
  return hash.digest('hex');
}

type Files = ReadonlyMap<string, Buffer>;

function filesIn(folder: string): Files {
  const names = fs.readdirSync(folder).sort();
  return new Map(names.map((name) => [name, fs.readFileSync(path.join(folder, name))]));
}

const isJournal = (name: string): boolean => name.endsWith('.platter-journal');
const journals = (folder: string): string[] => fs.readdirSync(folder).filter(isJournal);
const imageOf = (journal: string): string => journal.slice(1, -'.platter-journal'.length);

function putBack(folder: string, files: Files): void {
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder);
  for (const [name, bytes] of files) writeSparse(path.join(folder, name), bytes);
}

const piece = 64 * 1024;
const zeroes = Buffer.alloc(piece);

/** Without the zeroes, which would have to go to the disk each time the verb flushes. */
function writeSparse(file: string, bytes: Buffer): void {
  const descriptor = fs.openSync(file, 'w');
  fs.ftruncateSync(descriptor, bytes.length);
  for (let at = 0; at < bytes.length; at += piece) {
    const part = bytes.subarray(at, at + piece);
    if (!part.equals(zeroes.subarray(0, part.length))) fs.writeSync(descriptor, part, 0, part.length, at);
  }
  fs.closeSync(descriptor);
}

/** The first file that is not as it was; null: all are. One that was made, and holds nothing yet, is as good as none. */
function differing(folder: string, files: Files): string | null {
  const found = new Map([...filesIn(folder)].filter(([name, { length }]) => length > 0 || files.has(name)));
  for (const name of new Set([...files.keys(), ...found.keys()])) {
    const [a, b] = [files.get(name), found.get(name)];
    if (a === undefined || b === undefined || !a.equals(b)) return name;
  }
  return null;
}

async function prepare(
  row: VerbRow,
  folder: string,
  program: (argv: readonly string[]) => Promise<number>,
): Promise<void> {
  for (const [what, ...args] of row.prepare) {
    if (what === 'damage') damage(path.join(folder, 'image'), args[0] ?? '');
    else if (what === 'fill') {
      const { node } = openImage(path.join(folder, args[0] ?? ''), { writable: true });
      if (!isWritable(node)) throw new Error('cannot be filled');
      for (const { start, length } of fillings) writeGuest(node, positionCoded(start, length, 2), start);
      node.flush();
      node.close();
    } else if (what === 'platter') expect(await program(args), args.join(' ')).toBe(0);
    else mustRun(what, args, { cwd: folder });
  }
}

/** Corruptions and leaks by qemu-img's count; null: it has no check for the format. */
function qemuCheck(file: string, format: string): { corruptions: number; leaks: number; errors: number } | null {
  if (!checkedByQemu.includes(format)) return null;
  const { stdout, stderr } = runQemuImg(['check', '--output=json', '-f', format, file]);
  expect(stdout, stderr).not.toBe('');
  const found = JSON.parse(stdout) as Record<string, number>;
  return { corruptions: found.corruptions ?? 0, leaks: found.leaks ?? 0, errors: found['check-errors'] ?? 0 };
}

/** The suite for `rows`. Needs PLATTER_NO_KOFFI=1 before the engine is loaded; `program` is our command in this process. */
export function changesInPlace(rows: readonly VerbRow[], program: (argv: readonly string[]) => Promise<number>): void {
  describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'changes in place', () => {
    const scratch = scratchFolder('in-place');
    const started = process.cwd();
    const copies = new Copies(scratchFolder('in-place-notes'), { PLATTER_NO_KOFFI: '' });
    const killed = new Map<string, number>();
    const countKill = (verb: string): void => void killed.set(verb, (killed.get(verb) ?? 0) + 1);
    afterAll(() => {
      copies.end();
      process.chdir(started);
      const counts = [...killed].map(([verb, count]) => `${verb} ${count}`);
      if (counts.length > 0) console.log(`killed: ${counts.join(', ')}`);
    });

    for (const row of rows) {
      describe(row.name, () => {
        const top = path.join(scratch, row.name.replace(/[^a-z0-9]+/gi, '-'));
        const work = path.join(top, 'work');
        let before: Files;
        let after: Files;
        let old: string[];
        let fresh: string[];
        let cleanliness: ReturnType<typeof qemuCheck>[];
        let steps = 0;

        const contents = (folder = work): string[] =>
          row.images.map(({ file, format }) => contentOf(path.join(folder, file), format, row.startsDamaged === true));
        const checks = (): ReturnType<typeof qemuCheck>[] =>
          row.images.map(({ file, format }) =>
            row.notForQemu === undefined ? qemuCheck(path.join(work, file), format) : null,
          );
        const start = (): void => {
          process.chdir('/');
          putBack(work, before);
          process.chdir(work);
        };

        beforeAll(async () => {
          fs.mkdirSync(work, { recursive: true });
          process.chdir(work);
          await prepare(row, work, program);
          before = filesIn(work);
          old = contents();
          const count = await withFailingFiles(work, Infinity, 'EIO', () => program(row.argv));
          if (row.startsDamaged !== true) expect(count.said).toBe('');
          expect(count.result).toBe(0);
          steps = count.steps.length;
          fresh = contents();
          // What could be read before a repair reads the same after it.
          if (row.startsDamaged === true) expect(fresh).toEqual(old);
          after = filesIn(work);
          cleanliness = checks();
          for (const check of cleanliness) expect(check ?? { errors: 0 }).toMatchObject({ errors: 0 });
          if (!row.argv.includes('leaks')) for (const check of cleanliness) expect(check?.corruptions ?? 0).toBe(0);
        });

        /** Opens the image that `journal` lies beside, as the next change of it would. */
        function openForWriting(journal: string): void {
          const format = row.images.find(({ file }) => file === imageOf(journal))?.format;
          openImage(path.join(work, imageOf(journal)), {
            writable: true,
            forRepair: row.startsDamaged === true,
            ...(format === undefined ? {} : { format }),
          }).node.close();
        }

        /** What must hold after anything: nothing foreign is read, before and after the next opening for writing. */
        function judge(title: string): void {
          listenToJournals(() => {}); // each would be a line
          // To the byte what it was, or what an undisturbed run leaves: all is known of that.
          if (differing(work, before) === null) return;
          if (differing(work, after) === null) return;

          for (const name of row.untouched ?? []) {
            expect(
              fs.readFileSync(path.join(work, name)).equals(before.get(name) ?? Buffer.alloc(0)),
              `${title}: ${name}`,
            ).toBe(true);
          }
          if ((row.onlyAfterRollBack ?? row.notForQemu) === undefined && row.startsDamaged !== true) {
            for (const [i, { file, format }] of row.images.entries()) {
              const left = asLeft(file, format);
              const check = qemuCheck(left, format);
              if (row.uncounted === undefined) {
                expect(check?.corruptions ?? 0, `${title}: corruptions before it is put back`).toBe(0);
              }
              expect(check?.errors ?? 0, title).toBe(0);
              expectQemuReads(left, file, format, `${title}: image ${i}`);
            }
          }
          const read = contents();
          expect([old, fresh], `${title}: read by us`).toContainEqual(read);
          const unfinished = journals(work);
          for (const journal of unfinished) openForWriting(journal);
          expect([old, fresh], `${title}: after an opening for writing`).toContainEqual(contents());
          if (unfinished.length > 0 && journals(work).length === 0) {
            expect(differing(work, before), `${title}: a file that was not put back`).toBeNull();
          }
          if (differing(work, before) === null) return; // what it was: its check is known
          for (const [i, check] of checks().entries()) {
            expect(check?.corruptions ?? 0, `${title}: corruptions`).toBe(cleanliness[i]?.corruptions ?? 0);
            expect(check?.errors ?? 0, title).toBe(0);
          }
        }

        /** The file as the crash left it, or a copy of it on which qemu-img has replayed the log. */
        function asLeft(file: string, format: string): string {
          if (format !== 'vhdx') return path.join(work, file);
          const copy = path.join(top, 'replayed');
          fs.copyFileSync(path.join(work, file), copy);
          runQemuImg(['check', '-q', '-r', 'all', '-f', format, copy]);
          return copy;
        }

        /** qemu-img finds the old or the new content in the file as the crash left it. */
        function expectQemuReads(left: string, file: string, format: string, title: string): void {
          const known = [before, after].some((files, i) => {
            const folder = path.join(top, i === 0 ? 'before' : 'after');
            if (!fs.existsSync(folder)) putBack(folder, files);
            const other = path.join(folder, file);
            return runQemuImg(['compare', '-q', '-f', format, '-F', format, left, other]).status === 0;
          });
          expect(known, `${title}, read by qemu-img, is neither old nor new`).toBe(true);
        }

        it(row.undo === null ? 'keeps nothing to take it back with' : 'can be taken back', async () => {
          start();
          expect(await program(row.argv)).toBe(0);
          expect(contents()).toEqual(fresh);
          if (row.undo === null) {
            expect(journals(work)).toEqual([]);
            return;
          }
          expect(journals(work).length, 'a journal').toBeGreaterThan(0);
          expect(await program(['undo', '-q', row.undo ?? 'image'])).toBe(0);
          expect(differing(work, before)).toBeNull();
          expect(fs.readdirSync(work).sort()).toEqual([...before.keys()]);
        });

        for (const [errno, mode] of [
          ['EIO', 'lasting'],
          ['ENOSPC', 'once'],
        ] as const) {
          it(`${errno} at step n, ${mode}`, { timeout: 600_000 }, async () => {
            const stride = long ? 1 : Math.max(1, Math.ceil(steps / (row.few?.[0] ?? 2)));
            const first = long ? 1 : 1 + (new SeededRandom(chosenSeed(`${row.name} ${errno}`)).bits() % stride);
            for (let n = first; n <= steps; n += stride) {
              start();
              const {
                result,
                steps: made,
                said,
              } = await withFailingFiles(work, n, errno, () => program(row.argv), mode);
              const title = `step ${n} of ${steps} (${made[n - 1]}): ${said.trim()}`;
              // The end of a journal inside another may fail unsaid: the outer one has decided, and settles it.
              if (mode === 'lasting' && made.length >= n && result !== 0) expect(said, title).not.toBe('');
              if (mode === 'once') expect(contents(), title).toEqual(result === 0 ? fresh : old);
              else if (result === 0) expect(contents(), title).toEqual(fresh);
              judge(title);
            }
          });
        }

        itWith({ unless: cannotKill }, 'is killed', { timeout: 3_600_000 }, async () => {
          const seed = chosenSeed(`${row.name} killed`);
          const random = new SeededRandom(seed);
          const run = (at: Order['at'], when: Moment): Promise<Outcome> => {
            start();
            return copies.run({ argv: row.argv, folder: work, at, when });
          };
          for (let i = 0; i < (long ? 3 : 1); i++) await run('rehearse', 'after');
          // With the calls of the host there are other steps than without them.
          const whole = await run(null, 'after');
          expect(whole.status, whole.said).toBe(0);
          const rounds = long ? killsOf(row) : (row.few?.[1] ?? 4);
          for (let round = 0; round < rounds; round++) {
            const at = 1 + random.below(whole.changes);
            const when = random.pick(['before', 'after', 'middle'] as const);
            const title = `seed ${seed}, killed ${when} change ${at} of ${whole.changes}`;
            const { status, said } = await run(at, when);
            expect(status, `${title}: not killed, ${said}`).toBeNull();
            judge(title);
            countKill(row.argv[0] ?? '');
          }
        });

        const { undo = 'image' } = row;
        if (undo === null) return; // there is nothing to take it back with
        itWith({ unless: cannotKill }, 'is killed while it is taken back', { timeout: 3_600_000 }, async () => {
          const takeBack = async (at: Order['at'], when: Moment): Promise<Outcome> => {
            start();
            expect(await program(row.argv)).toBe(0);
            return copies.run({ argv: ['undo', '-q', undo], folder: work, at, when });
          };
          const seed = chosenSeed(`${row.name} killed while it is taken back`);
          const random = new SeededRandom(seed);
          await takeBack('rehearse', 'after');
          const whole = await takeBack(null, 'after');
          expect(whole.status, whole.said).toBe(0);
          expect(differing(work, before)).toBeNull();
          for (let round = 0; round < (long ? undoKills : 2); round++) {
            const at = 1 + random.below(whole.changes);
            const when = random.pick(['before', 'after', 'middle'] as const);
            const title = `seed ${seed}, undo killed ${when} change ${at} of ${whole.changes}`;
            const { status, said } = await takeBack(at, when);
            expect(status, `${title}: not killed, ${said}`).toBeNull();
            expect([old, fresh], `${title}: read by us`).toContainEqual(contents());
            // The next opening for writing ends what began, for each of the images that the verb changed together.
            for (const journal of journals(work)) openForWriting(journal);
            if (differing(work, before) !== null) {
              // It had not begun yet: all is as the verb left it, and can still be taken back.
              expect(contents(), title).toEqual(fresh);
              expect(await program(['undo', '-q', undo]), title).toBe(0);
              expect(differing(work, before), title).toBeNull();
            }
            countKill('undo');
          }
        });
      });
    }
  });
}
