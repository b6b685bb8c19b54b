// Damage to an image: fields of its declared structures at their limits, words and bytes of its tables, pieces copied, the end cut off.
import fs from 'node:fs';
import path from 'node:path';
import type { Struct } from '../../core/bytes/struct.ts';
import type { FormatId } from '../../core/formats/format-id.ts';
import { SeededRandom, seedOf } from '../seeded-random.ts';

/** A field's place in the file. */
export interface FieldPlace {
  readonly name: string;
  readonly offset: number;
  readonly width: number;
}

export interface Mutant {
  /** What was done, to find it again. */
  readonly text: string;
  readonly bytes: Uint8Array;
}

type AnyStruct = Pick<Struct<Record<string, never>>, 'name' | 'size' | 'fields' | 'annotate'>;

const folders: Partial<Record<FormatId, string>> = { vpc: 'vhd' };

/** The structures that the format's spec.ts declares. */
async function structuresOf(format: FormatId): Promise<AnyStruct[]> {
  const spec = path.join(import.meta.dirname, '..', '..', 'core', 'formats', folders[format] ?? format, 'spec.ts');
  if (!fs.existsSync(spec)) return [];
  const exported = Object.values((await import(spec)) as Record<string, unknown>);
  return exported.filter(
    (value): value is AnyStruct =>
      typeof value === 'object' && value !== null && 'annotate' in value && 'fields' in value,
  );
}

/** Every field of every declared structure that is found in `image` by the values it must have, at sector boundaries. */
export async function fieldsIn(format: FormatId, image: Uint8Array): Promise<FieldPlace[]> {
  const places = new Map<string, FieldPlace>();
  for (const structure of await structuresOf(format)) {
    const rows = Object.entries<{ limits: { is?: unknown } }>(structure.fields);
    const marks = rows.filter(([, row]) => row.limits.is !== undefined).map(([name]) => name);
    if (marks.length === 0) continue;
    for (const start of candidateStarts(image.length, structure.size)) {
      if (start < 0 || start + structure.size > image.length) continue;
      const annotations = structure.annotate(image.subarray(start, start + structure.size), start);
      const marked = annotations.filter(({ field }) => marks.includes(field));
      if (marked.length !== marks.length || marked.some(({ fault }) => fault !== null)) continue;
      // A structure that only has to have zeroes somewhere would be found everywhere.
      if (marked.every((mark) => image.subarray(mark.start, mark.start + mark.length).every((byte) => byte === 0)))
        continue;
      for (const { start: offset, length, field } of annotations) {
        places.set(`${offset}+${length}`, { name: `${structure.name}.${field}`, offset, width: length });
      }
    }
  }
  return [...places.values()];
}

/** Where a structure of `size` bytes may stand: at sector boundaries, at words of the first sectors, at the end. */
function candidateStarts(length: number, size: number): number[] {
  const starts: number[] = [];
  for (let at = 0; at < length; at += at < 2048 ? 8 : 512) starts.push(at);
  return [...starts, length - size, length - 512];
}

/** 512-byte stretches that hold something: tables, descriptors, data. */
function livePlaces(image: Uint8Array): number[] {
  const live: number[] = [];
  for (let at = 0; at < image.length; at += 512) {
    if (image.subarray(at, at + 512).some((byte) => byte !== 0)) live.push(at);
  }
  return live;
}

const fillings = ['zero', 'one', 'all bits', 'top bit', 'random', 'file length', 'one more', 'one less'] as const;

/** Makes mutant number i of one image; the same number gives the same mutant. */
export class Mutator {
  readonly #name: string;
  readonly #image: Uint8Array;
  readonly #fields: readonly FieldPlace[];
  readonly #live: readonly number[];

  constructor(name: string, image: Uint8Array, fields: readonly FieldPlace[]) {
    this.#name = name;
    this.#image = image;
    this.#fields = fields;
    this.#live = livePlaces(image);
  }

  /** Every other one is a field of a structure with one of the fillings, each of them in turn; the others are random. */
  mutant(index: number): Mutant {
    const random = new SeededRandom(seedOf(`${this.#name} ${index}`));
    const bytes = this.#image.slice();
    // A stride that shares no factor with the number of pairs visits all of them, and the first few are spread over all.
    const turn = ((index >> 1) * 7919) % Math.max(1, this.#fields.length * fillings.length);
    const field = this.#fields[Math.floor(turn / fillings.length)];
    const filling = fillings[turn % fillings.length] ?? 'zero';
    if (index % 2 === 0 && field !== undefined) return { bytes, text: this.#fill(bytes, field, filling, random) };
    const kind = random.below(7);
    if (kind === 0) {
      const cut = random.oneIn(2)
        ? random.below(bytes.length)
        : Math.min(bytes.length, (this.#place(random) & ~511) + random.below(3));
      return { bytes: bytes.slice(0, cut), text: `cut to ${cut} bytes` };
    }
    const texts: string[] = [];
    for (let left = 1 + random.below(3); left > 0; left--) texts.push(this.#damage(bytes, kind, random));
    return { bytes, text: texts.join('; ') };
  }

  #damage(bytes: Uint8Array, kind: number, random: SeededRandom): string {
    const at = this.#place(random);
    switch (kind) {
      case 1:
      case 2: {
        const picked = this.#fields.length > 0 ? random.pick(this.#fields) : { name: 'word', offset: at, width: 4 };
        return this.#fill(bytes, picked, random.pick(fillings), random);
      }
      case 3: {
        const width = random.pick([2, 4, 8]);
        const offset = at - (at % width);
        return this.#fill(bytes, { name: 'word', offset, width }, random.pick(fillings), random);
      }
      case 4: {
        const from = this.#place(random) & ~7;
        const length = random.pick([8, 64, 512]);
        bytes.copyWithin(at & ~7, from, Math.min(bytes.length, from + length));
        return `copy ${length} bytes from ${from} to ${at & ~7}`;
      }
      case 5: {
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
        return `flip a bit of byte ${at}`;
      }
      default: {
        const noise = random.bytes(1 + random.below(16)).subarray(0, bytes.length - at);
        bytes.set(noise, at);
        return `${noise.length} random bytes at ${at}`;
      }
    }
  }

  #place(random: SeededRandom): number {
    const block = this.#live.length === 0 ? 0 : random.pick(this.#live);
    return Math.min(this.#image.length - 1, block + random.below(512));
  }

  #fill(bytes: Uint8Array, field: FieldPlace, filling: (typeof fillings)[number], random: SeededRandom): string {
    const target = bytes.subarray(field.offset, field.offset + field.width);
    const little =
      this.#name.startsWith('vhdx') ||
      this.#name.startsWith('vmdk') ||
      this.#name.startsWith('vdi') ||
      this.#name.startsWith('qed');
    const last = little ? 0 : target.length - 1;
    switch (filling) {
      case 'zero':
        target.fill(0);
        break;
      case 'one':
        target.fill(0);
        if (target.length > 0) target[last] = 1;
        break;
      case 'all bits':
        target.fill(0xff);
        break;
      case 'top bit':
        if (target.length > 0) target[little ? target.length - 1 : 0] = 0x80;
        break;
      case 'random':
        target.set(random.bytes(target.length));
        break;
      case 'file length': {
        target.fill(0);
        let value = this.#image.length - (random.oneIn(2) ? 0 : 512);
        for (let i = 0; i < target.length && value > 0; i++, value = Math.floor(value / 256)) {
          target[little ? i : target.length - 1 - i] = value & 0xff;
        }
        break;
      }
      case 'one more':
      case 'one less':
        if (target.length > 0) target[last] = ((target[last] ?? 0) + (filling === 'one more' ? 1 : 255)) & 0xff;
        break;
    }
    return `${field.name} at ${field.offset} (${field.width} bytes): ${filling} = ${Buffer.from(target.subarray(0, 16)).toString('hex')}`;
  }
}
