// The eight key slots of a LUKS header: opened, filled and erased by us, by qemu-img and by cryptsetup; cut off in the middle.
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { amendKeys, changeKey, type KeyAmendment } from '../../../../core/block/crypto/luks/amend.ts';
import { createLuks } from '../../../../core/block/crypto/luks/create.ts';
import { materialRange, readHeader, type HeaderPlace } from '../../../../core/block/crypto/luks/header.ts';
import { activeSlots, openAnySlot, openSlot } from '../../../../core/block/crypto/luks/key-slots.ts';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { ImageError, isImageError } from '../../../../core/errors/image-error.ts';
import { FailingStorage, StepCounter } from '../../../faults/failing-storage.ts';
import { describeWith, mustRun, runPeer } from '../../../peers.ts';
import { scratchFolder } from '../../../scratch.ts';
import { mustRunWithSecrets, runWithSecrets, secretBytes } from './passphrases.ts';

/** Small keys make small slots and quick tests. */
const choice = { cipher: 'aes-128', mode: 'cbc', generator: null, generatorHash: null, hash: null } as const;

const words = (slot: number): Buffer => Buffer.from(`passphrase number ${slot}`);

const nothing: KeyAmendment = {
  state: 'active',
  slot: null,
  newPassphrase: null,
  oldPassphrase: null,
  iterTime: 1,
  force: false,
};

function newHeader(): { storage: MemoryStorage; place: HeaderPlace; masterKey: Uint8Array } {
  const storage = new MemoryStorage();
  const place = { storage, base: 0 };
  const { masterKey, header } = createLuks(place, choice, secretBytes, 1);
  storage.truncate(header.fields.payload_offset * 512 + 4096);
  return { storage, place, masterKey };
}

/** The message of an ImageError; `done` when there is none. */
function outcome(action: () => unknown): string {
  try {
    action();
    return 'done';
  } catch (error) {
    if (error instanceof ImageError) return error.message;
    throw error;
  }
}

describe('key slots', () => {
  it('are eight, each with a passphrase of its own, and no ninth', () => {
    const { place, masterKey } = newHeader();
    for (let slot = 1; slot < 8; slot++) {
      const header = readHeader(place);
      expect(amendKeys(place, header, secretBytes, { ...nothing, newPassphrase: words(slot) })).toEqual([slot]);
    }
    const header = readHeader(place);
    expect(activeSlots(header)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    for (let slot = 1; slot < 8; slot++) {
      expect(openAnySlot(place, header, words(slot))).toEqual(Uint8Array.from(masterKey));
      expect(openSlot(place, header, slot, words(slot))).toEqual(Uint8Array.from(masterKey));
      expect(openSlot(place, header, slot === 7 ? 1 : slot + 1, words(slot))).toBeNull();
    }
    expect(outcome(() => openAnySlot(place, header, Buffer.from('wrong')))).toMatch(/cannot unlock any keyslot/);
    expect(outcome(() => amendKeys(place, header, secretBytes, { ...nothing, newPassphrase: words(9) }))).toMatch(
      /all keyslots are in use/,
    );
  });

  it('that are erased hold nothing of the key any more', () => {
    const { storage, place } = newHeader();
    const header = readHeader(place);
    amendKeys(place, header, secretBytes, { ...nothing, newPassphrase: words(1) });
    const { start, length } = materialRange(header, 1);
    const before = storage.bytes().slice(start, start + length);
    amendKeys(place, header, secretBytes, { ...nothing, state: 'inactive', oldPassphrase: words(1) });
    const after = storage.bytes().slice(start, start + length);
    let same = 0;
    for (let at = 0; at < length; at += 16) {
      if (Buffer.compare(before.subarray(at, at + 16), after.subarray(at, at + 16)) === 0) same++;
    }
    expect(same).toBe(0);
    expect(readHeader(place).slots[1]).toMatchObject({ active: 0xdead, iterations: 0, salt: new Uint8Array(32) });
  });

  it('change a passphrase for another', () => {
    const { place, masterKey } = newHeader();
    const header = readHeader(place);
    expect(changeKey(place, header, secretBytes, words(5), 1)).toBe(1);
    const now = readHeader(place);
    expect(activeSlots(now)).toEqual([1]);
    expect(openAnySlot(place, now, words(5))).toEqual(Uint8Array.from(masterKey));
    expect(outcome(() => openAnySlot(place, now, secretBytes))).toMatch(/Invalid password/);
  });

  for (const [what, change] of [
    [
      'a passphrase is added',
      (place: HeaderPlace) => amendKeys(place, readHeader(place), secretBytes, { ...nothing, newPassphrase: words(1) }),
    ],
    ['a passphrase is changed', (place: HeaderPlace) => changeKey(place, readHeader(place), secretBytes, words(1), 1)],
  ] as const) {
    it(`open with the old passphrase or the new one whatever fails while ${what}`, () => {
      const first = newHeader().storage.bytes();
      for (let n = 1; ; n++) {
        for (const torn of [false, true]) {
          const inner = new MemoryStorage(first);
          const counter = new StepCounter(n, { torn });
          const place = { storage: new FailingStorage(inner, counter), base: 0 };
          try {
            change(place);
          } catch (error) {
            if (!isImageError(error)) throw error;
          }
          const left = { storage: inner, base: 0 };
          const header = readHeader(left);
          const opens = [secretBytes, words(1)].filter(
            (one) => outcome(() => openAnySlot(left, header, one)) === 'done',
          );
          expect(opens.length, `step ${n}: ${counter.kinds.join(' ')}`).toBeGreaterThan(0);
          if (!counter.struck && torn) return;
        }
      }
    });
  }
});

describeWith({ peers: ['qemu-img', 'cryptsetup'] }, 'key slots and their rules', () => {
  const folder = scratchFolder('luks-slots');
  const ours = path.join(folder, 'ours.luks');
  const theirs = path.join(folder, 'theirs.luks');

  it('filled by us are opened by qemu-img and by cryptsetup, each of the eight', () => {
    const { storage, place } = newHeader();
    for (let slot = 1; slot < 8; slot++) {
      amendKeys(place, readHeader(place), secretBytes, { ...nothing, newPassphrase: words(slot) });
    }
    fs.writeFileSync(ours, storage.bytes());
    for (let slot = 0; slot < 8; slot++) {
      const key = slot === 0 ? secretBytes : words(slot);
      const image = `driver=luks,file.filename=${ours},key-secret=k`;
      mustRun('qemu-img', [
        'map',
        '--output=json',
        '--object',
        `secret,id=k,data=${key.toString()}`,
        '--image-opts',
        image,
      ]);
      const open = ['open', '--test-passphrase', `--key-slot=${slot}`, '--key-file=-', ours];
      mustRun('cryptsetup', open, { input: key });
      expect(runPeer('cryptsetup', open, { input: words((slot % 7) + 20) }).status).not.toBe(0);
    }
  });

  it('filled by cryptsetup are opened by us, each of the eight', () => {
    fs.writeFileSync(theirs, new Uint8Array(4 * 1024 * 1024));
    const common = ['--batch-mode', '--pbkdf-force-iterations=1000', '--key-file=-'];
    mustRun(
      'cryptsetup',
      ['luksFormat', '--type=luks1', '--cipher=aes-cbc-plain64', '--key-size=128', ...common, theirs],
      {
        input: secretBytes,
      },
    );
    for (let slot = 1; slot < 8; slot++) {
      const file = path.join(folder, `key-${slot}`);
      fs.writeFileSync(file, words(slot));
      mustRun('cryptsetup', ['luksAddKey', ...common, theirs, file], { input: secretBytes });
    }
    const place = { storage: new MemoryStorage(fs.readFileSync(theirs)), base: 0 };
    const header = readHeader(place);
    const key = openAnySlot(place, header, secretBytes);
    for (let slot = 1; slot < 8; slot++) expect(openSlot(place, header, slot, words(slot))).toEqual(key);
  });

  it('are amended as qemu-img amends them, and refused in its words', () => {
    const { storage } = newHeader();
    fs.writeFileSync(theirs, storage.bytes());
    const place = { storage: new MemoryStorage(storage.bytes()), base: 0 };
    const two = Buffer.from('other');
    const wrong = Buffer.from('nobody uses this');
    const names = new Map<Uint8Array, string>([
      [secretBytes, 's'],
      [two, 'other'],
      [wrong, 'wrong'],
    ]);
    const steps: readonly Partial<KeyAmendment>[] = [
      {},
      { newPassphrase: two, slot: 9 },
      { newPassphrase: two, slot: 0 },
      { newPassphrase: two, oldPassphrase: secretBytes },
      { newPassphrase: two },
      { newPassphrase: two, slot: 5 },
      { newPassphrase: secretBytes, slot: 3 },
      { state: 'inactive' },
      { state: 'inactive', oldPassphrase: wrong },
      { state: 'inactive', newPassphrase: two },
      { state: 'inactive', slot: 8 },
      { state: 'inactive', slot: 6 },
      { state: 'inactive', slot: 5, oldPassphrase: secretBytes },
      { state: 'inactive', slot: 5 },
      { state: 'inactive', oldPassphrase: two },
      { state: 'inactive', slot: 3 },
      { state: 'inactive', slot: 0 },
      { state: 'inactive', oldPassphrase: secretBytes },
      { newPassphrase: two },
      { newPassphrase: two },
      { newPassphrase: two },
      { newPassphrase: two },
      { newPassphrase: two },
      { newPassphrase: two },
      { newPassphrase: two },
      { newPassphrase: two },
      { state: 'inactive', oldPassphrase: two },
    ];
    for (const [index, step] of steps.entries()) {
      const amendment = { ...nothing, ...step };
      const said = [`state=${amendment.state}`];
      if (amendment.slot !== null) said.push(`keyslot=${amendment.slot}`);
      if (amendment.newPassphrase !== null) said.push(`new-secret=${names.get(amendment.newPassphrase)}`);
      if (amendment.oldPassphrase !== null) said.push(`old-secret=${names.get(amendment.oldPassphrase)}`);
      if (amendment.state === 'active') said.push('iter-time=1');
      const title = `step ${index}: ${said.join(',')}`;
      const image = `driver=luks,file.filename=${theirs},key-secret=s`;
      const peer = runWithSecrets('qemu-img', [
        'amend',
        '--object',
        `secret,id=wrong,data=${wrong.toString()}`,
        '--image-opts',
        image,
        '-o',
        said.join(','),
      ]);
      const mine = outcome(() => amendKeys(place, readHeader(place), secretBytes, amendment));
      expect(mine, title).toBe(peer.status === 0 ? 'done' : peer.stderr.replace(/^qemu-img: |\n$/g, ''));
      const left = readHeader({ storage: new MemoryStorage(fs.readFileSync(theirs)), base: 0 });
      expect(activeSlots(readHeader(place)), title).toEqual(activeSlots(left));
    }
  });

  it('may be overwritten, and the last one erased, with the word `force`', () => {
    const { place } = newHeader();
    const header = readHeader(place);
    expect(
      amendKeys(place, header, secretBytes, { ...nothing, slot: 0, newPassphrase: words(3), force: true }),
    ).toEqual([0]);
    expect(outcome(() => openAnySlot(place, header, words(3)))).toBe('done');
    expect(amendKeys(place, header, words(3), { ...nothing, state: 'inactive', slot: 0, force: true })).toEqual([0]);
    expect(activeSlots(readHeader(place))).toEqual([]);
  });

  it('of qemu-img inside qcow2 count from the start of the header', () => {
    const file = path.join(folder, 'inside.qcow2');
    mustRunWithSecrets('qemu-img', [
      'create',
      '-q',
      '-f',
      'qcow2',
      '-o',
      'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1',
      file,
      '1M',
    ]);
    const bytes = fs.readFileSync(file);
    const base = bytes.indexOf(Buffer.from('LUKS\xba\xbe', 'latin1'));
    const place = { storage: new MemoryStorage(bytes), base };
    expect(outcome(() => openAnySlot(place, readHeader(place), secretBytes))).toBe('done');
  });
});
