// All verbs that change a qcow2 image, in one random sequence against plain buffers; qemu-io discards in between, and qemu-img judges after each.
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { writeGuest } from '../../core/block/write.ts';
import { isWritable } from '../../core/block/node.ts';
import { openImage } from '../../core/formats/open.ts';
import { describeWith, mustRun, runQemuImg } from '../peers.ts';
import { difference, positionCoded } from '../position-coded.ts';
import { scratchFolder } from '../scratch.ts';
import { chosenSeed, SeededRandom } from '../seeded-random.ts';

vi.hoisted(() => {
  process.env.PLATTER_QEMU_COMPAT = '7.2';
});
const { program } = await import('../../cli/program.ts');

const KiB = 1024;
const MiB = 1024 * KiB;
const cluster = 64 * KiB;
const long = process.env.PLATTER_LONG === '1';
const bases = ['a', 'b'] as const;

type Verb = 'write' | 'zero' | 'discard' | 'snapshot' | 'apply' | 'delete' | 'resize' | 'commit' | 'rebase' | 'compact';
const verbs: readonly Verb[] = [
  'write',
  'write',
  'zero',
  'discard',
  'snapshot',
  'snapshot',
  'apply',
  'delete',
  'resize',
  'commit',
  'rebase',
  'compact',
];

/** The image `top`, over `a`, `b` or nothing; what each must read as. */
class Play {
  readonly told: string[] = [];
  readonly folder: string;
  readonly #random: SeededRandom;
  readonly #models = new Map<string, Buffer>();
  readonly #snapshots = new Map<string, Buffer>();
  #model: Buffer = Buffer.alloc(3 * MiB);
  #base: (typeof bases)[number] | null = 'a';
  #layer = 0;

  constructor(folder: string, random: SeededRandom) {
    this.folder = folder;
    this.#random = random;
  }

  async begin(): Promise<void> {
    for (const name of bases) {
      mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', this.at(name), '4M']);
      const content = Buffer.alloc(4 * MiB);
      this.#models.set(name, content);
      for (let i = 0; i < 6; i++) this.#writeTo(name, content);
    }
    await this.#run('create', '-f', 'qcow2', '-b', 'a', '-F', 'qcow2', this.at('top'), String(3 * MiB));
    this.#model = Buffer.from(this.#modelOf('a').subarray(0, 3 * MiB));
  }

  at(name: string): string {
    return path.join(this.folder, name);
  }

  #modelOf(name: string): Buffer {
    const model = this.#models.get(name);
    if (model === undefined) throw new Error(`no model of ${name}`);
    return model;
  }

  async #run(verb: string, ...args: string[]): Promise<void> {
    this.told.push(`${verb} ${args.join(' ')}`);
    expect(await program([verb, '-q', ...args]), this.told.at(-1)).toBe(0);
  }

  #range(size: number, unit: number): { start: number; length: number } {
    const start = this.#random.below(size / unit) * unit;
    const most = this.#random.oneIn(3) ? MiB : 200 * KiB;
    return { start, length: Math.min(size - start, (1 + this.#random.below(most / unit)) * unit) };
  }

  #writeTo(name: string, model: Buffer, zero = false): void {
    const { start, length } = this.#range(model.length, 512);
    this.#layer = (this.#layer % 250) + 1;
    const bytes = zero ? Buffer.alloc(length) : positionCoded(start, length, this.#layer);
    this.told.push(`${zero ? 'zero' : 'write'} ${name} ${start}+${length}`);
    const { node } = openImage(this.at(name), { writable: true, format: 'qcow2' });
    if (!isWritable(node)) throw new Error('cannot be written');
    writeGuest(node, bytes, start);
    node.flush();
    node.close();
    model.set(bytes, start);
  }

  async #deleteAll(): Promise<void> {
    for (const name of this.#snapshots.keys()) await this.#run('snapshot', '-d', name, this.at('top'));
    this.#snapshots.clear();
  }

  async step(verb: Verb): Promise<void> {
    const top = this.at('top');
    const names = [...this.#snapshots.keys()];
    switch (verb) {
      case 'write':
      case 'zero':
        this.#writeTo('top', this.#model, verb === 'zero');
        break;
      case 'discard': {
        const { start, length } = this.#range(this.#model.length - (this.#model.length % cluster), cluster);
        this.told.push(`discard ${start}+${length}`);
        mustRun('qemu-io', ['-f', 'qcow2', '-d', 'unmap', '-c', `discard ${start} ${length}`, top]);
        this.#model.fill(0, start, start + length);
        break;
      }
      case 'snapshot': {
        const name = `s${this.told.length}`;
        await this.#run('snapshot', '-c', name, top);
        this.#snapshots.set(name, Buffer.from(this.#model));
        break;
      }
      case 'apply': {
        if (names.length === 0) return;
        const name = this.#random.pick(names);
        await this.#run('snapshot', '-a', name, top);
        this.#model = Buffer.from(this.#snapshots.get(name) ?? Buffer.alloc(0));
        break;
      }
      case 'delete': {
        if (names.length === 0) return;
        const name = this.#random.pick(names);
        await this.#run('snapshot', '-d', name, top);
        this.#snapshots.delete(name);
        break;
      }
      case 'resize': {
        const size = (2 + this.#random.below(9)) * 512 * KiB;
        await this.#run('resize', '--shrink', top, String(size));
        const kept = this.#model.subarray(0, size);
        this.#model = Buffer.concat([kept, Buffer.alloc(size - kept.length)]);
        break;
      }
      case 'commit': {
        if (this.#base === null) return;
        // What a snapshot left to the base would be another thing afterwards.
        await this.#deleteAll();
        await this.#run('commit', top);
        const tail = this.#modelOf(this.#base).subarray(this.#model.length);
        this.#models.set(this.#base, Buffer.concat([this.#model, tail]));
        break;
      }
      case 'rebase': {
        await this.#deleteAll();
        this.#base = this.#random.pick([...bases, null]);
        await this.#run('rebase', ...(this.#base === null ? ['-b', ''] : ['-b', this.#base, '-F', 'qcow2']), top);
        break;
      }
      case 'compact':
        await this.#run('compact', top);
        break;
    }
    this.judge();
  }

  /** Everything is in order, and reads as it must, in qemu-img's eyes. */
  judge(): void {
    const checked = runQemuImg(['check', '-f', 'qcow2', this.at('top')]);
    expect(checked.status, `${checked.stdout}${checked.stderr}`).toBe(0);
    this.#compare('top', this.#model);
    for (const name of bases) this.#compare(name, this.#modelOf(name));
    for (const [name, model] of this.#snapshots) this.#compare('top', model, name);
  }

  /** The size too. qemu-img gives a snapshot out with the size that the image has now, so there only what both have is compared. */
  #compare(name: string, model: Buffer, snapshot: string | null = null): void {
    const raw = this.at('raw');
    const which = snapshot === null ? [] : ['-l', snapshot];
    mustRun('qemu-img', ['convert', '-f', 'qcow2', ...which, '-O', 'raw', this.at(name), raw]);
    const content = fs.readFileSync(raw);
    const size = snapshot === null ? model.length : Math.min(model.length, this.#model.length);
    if (snapshot !== null) expect(content.length, `${name} ${snapshot}`).toBe(this.#model.length);
    const shown = snapshot === null ? content : content.subarray(0, size);
    expect(difference(shown, model.subarray(0, size)), `${name} ${snapshot ?? ''}`).toBeNull();
  }
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'all verbs of qcow2 in a random order', () => {
  const scratch = scratchFolder('verbs-random');
  const started = process.cwd();
  const seed = chosenSeed('verbs of qcow2');
  beforeAll(() => process.chdir(scratch));
  afterAll(() => process.chdir(started));

  for (let sequence = 0; sequence < (long ? 20 : 2); sequence++) {
    it(`sequence ${sequence} (seed ${seed})`, { timeout: 600_000 }, async () => {
      const folder = path.join(scratch, String(sequence));
      fs.mkdirSync(folder);
      const random = new SeededRandom(seed + sequence);
      const play = new Play(folder, random);
      try {
        await play.begin();
        for (let i = 0; i < (long ? 30 : 16); i++) await play.step(random.pick(verbs));
      } catch (error) {
        console.log(`seed ${seed}, sequence ${sequence}:\n${play.told.join('\n')}`);
        throw error;
      }
    });
  }
});
