// LUKS headers: what qemu-img writes is read, what it refuses is refused in its words, and what it reads of ours.
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { namedAlgorithms, sectorsUnder } from '../../../../core/block/crypto/luks/algorithms.ts';
import { createLuks, newPayloadOffset } from '../../../../core/block/crypto/luks/create.ts';
import { headerBytes, luksFacts, payloadOffset, readHeader } from '../../../../core/block/crypto/luks/header.ts';
import { mostIterations, openAnySlot } from '../../../../core/block/crypto/luks/key-slots.ts';
import { headerLength, keySlot, partitionHeader } from '../../../../core/block/crypto/luks/spec.ts';
import { MemoryStorage } from '../../../../core/block/memory.ts';
import { ImageError } from '../../../../core/errors/image-error.ts';
import { describeWith, mustRun, runQemuImg } from '../../../peers.ts';
import { difference, positionCoded } from '../../../position-coded.ts';
import { scratchFolder } from '../../../scratch.ts';
import { mustRunWithSecrets, quick, runWithSecrets, secretBytes } from './passphrases.ts';

/** `name=value` pairs as options. */
function optionsOf(text: string): Record<string, string> {
  const pairs = text.split(',').filter((pair) => pair !== '');
  return Object.fromEntries(
    pairs.map((pair): [string, string] => [pair.split('=')[0] ?? '', pair.split('=')[1] ?? '']),
  );
}

function codeOf(action: () => unknown): string {
  try {
    action();
    return 'none';
  } catch (error) {
    if (error instanceof ImageError) return error.code;
    throw error;
  }
}

/** Options, whether cryptsetup opens such slots without the kernel, and whether the row is for the long mode only. */
const combinations: readonly (readonly [options: string, cryptsetup: boolean, long?: true])[] = [
  ['', true],
  ['cipher-alg=aes-128', true, true],
  ['cipher-alg=aes-192', false],
  ['cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv', true],
  ['cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=md5', false, true],
  ['cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=plain,hash-alg=sha1', true],
  ['cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=plain64,hash-alg=ripemd160', true],
  ['cipher-alg=aes-256,cipher-mode=ctr,hash-alg=sha512', false, true],
  ['cipher-alg=aes-128,cipher-mode=ctr,ivgen-alg=essiv,hash-alg=sha384', false],
  ['cipher-alg=aes-256,cipher-mode=ecb,hash-alg=sha512', false],
  ['cipher-alg=aes-256,cipher-mode=ecb,hash-alg=md5', false, true],
  ['cipher-alg=aes-128,cipher-mode=xts,ivgen-alg=essiv,hash-alg=sha224', false],
  ['cipher-mode=xts,ivgen-alg=plain,ivgen-hash-alg=sha512', false, true],
];

describeWith({ peers: ['qemu-img', 'cryptsetup'] }, 'LUKS headers', () => {
  const folder = scratchFolder('luks-header');
  const at = (name: string): string => path.join(folder, name);
  const size = 100 * 512;
  const content = positionCoded(0, size, 3);

  beforeAll(() => fs.writeFileSync(at('content.raw'), content));

  for (const [text, cryptsetup, long] of combinations) {
    if (long === true && process.env.PLATTER_LONG !== '1') continue;
    const all = `key-secret=s,${quick}${text === '' ? '' : `,${text}`}`;

    it(`of qemu-img with ${text === '' ? 'no options' : text} are opened`, () => {
      mustRunWithSecrets('qemu-img', ['convert', '-O', 'luks', '-o', all, 'content.raw', 'theirs.luks'], {
        cwd: folder,
      });
      const storage = new MemoryStorage(fs.readFileSync(at('theirs.luks')));
      const place = { storage, base: 0 };
      const header = readHeader(place);
      expect(Buffer.compare(headerBytes(header), storage.bytes().subarray(0, headerLength))).toBe(0);
      expect(newPayloadOffset(namedAlgorithms(optionsOf(text)))).toBe(payloadOffset(header));
      const bytes = new Uint8Array(size);
      storage.readAt(bytes, payloadOffset(header));
      sectorsUnder(header.algorithms, openAnySlot(place, header, secretBytes)).decrypt(bytes, 0);
      expect(difference(bytes, content)).toBeNull();
      const told = JSON.parse(mustRun('qemu-img', ['info', '--output=json', at('theirs.luks')])) as {
        'format-specific': { data: unknown };
      };
      expect(luksFacts(header)).toEqual(told['format-specific'].data);
    });

    it(`of ours with ${text === '' ? 'no options' : text} are opened by qemu-img${cryptsetup ? ' and by cryptsetup' : ''}`, () => {
      const storage = new MemoryStorage();
      const { header, masterKey } = createLuks({ storage, base: 0 }, namedAlgorithms(optionsOf(text)), secretBytes, 1);
      const bytes = content.slice();
      sectorsUnder(header.algorithms, masterKey).encrypt(bytes, 0);
      storage.writeAt(bytes, payloadOffset(header));
      fs.writeFileSync(at('ours.luks'), storage.bytes());
      const image = `driver=luks,file.filename=${at('ours.luks')},key-secret=s`;
      mustRunWithSecrets('qemu-img', ['convert', '-O', 'raw', '--image-opts', image, at('out.raw')]);
      expect(difference(fs.readFileSync(at('out.raw')), content)).toBeNull();
      if (!cryptsetup) return;
      const open = ['open', '--test-passphrase', '--batch-mode', '--key-file', '-', at('ours.luks')];
      mustRun('cryptsetup', open, { input: secretBytes });
      expect(() => mustRun('cryptsetup', open, { input: 'other' })).toThrow(/No key available/);
    });
  }

  it('of cryptsetup are opened', () => {
    fs.writeFileSync(at('format.luks'), new Uint8Array(4 * 1024 * 1024));
    for (const [cipher, bits] of [
      ['aes-xts-plain64', '512'],
      ['aes-cbc-essiv:sha256', '256'],
      ['aes-cbc-plain64', '192'],
    ] as const) {
      mustRun(
        'cryptsetup',
        [
          'luksFormat',
          '--batch-mode',
          '--type=luks1',
          '--pbkdf-force-iterations=1000',
          `--cipher=${cipher}`,
          `--key-size=${bits}`,
          '--key-file=-',
          at('format.luks'),
        ],
        { input: secretBytes },
      );
      const place = { storage: new MemoryStorage(fs.readFileSync(at('format.luks'))), base: 0 };
      const header = readHeader(place);
      expect(openAnySlot(place, header, secretBytes).length).toBe(Number(bits) / 8);
      expect(codeOf(() => openAnySlot(place, header, Buffer.from('other')))).toBe('crypto/password');
    }
  });

  describe('that are damaged', () => {
    let whole: Uint8Array;
    let essiv: Uint8Array;

    beforeAll(() => {
      const make = (options: string): Uint8Array => {
        mustRunWithSecrets('qemu-img', ['create', '-q', '-f', 'luks', '-o', options, at('seed.luks'), '64k']);
        return fs.readFileSync(at('seed.luks'));
      };
      whole = make(`key-secret=s,${quick}`);
      essiv = make(`key-secret=s,${quick},cipher-mode=cbc,ivgen-alg=essiv`);
    });

    const word = (value: number): number[] => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
    const text = (value: string): number[] => [...Buffer.from(`${value}\0`)];
    const slot = (index: number, field: keyof typeof keySlot.fields): number =>
      partitionHeader.size + index * keySlot.size + keySlot.fields[field].offset;
    const { offset: cipherName } = partitionHeader.fields.cipher_name;
    const { offset: cipherMode } = partitionHeader.fields.cipher_mode;
    const { offset: hashSpec } = partitionHeader.fields.hash_spec;
    const long = Array.from({ length: 32 }, () => 0x61);
    const mutations: readonly [what: string, offset: number, bytes: readonly number[]][] = [
      ['another magic', 0, [0x58]],
      ['version 2', 6, [0, 2]],
      ['version 258', 6, [1, 2]],
      ['a cipher name without end', cipherName, long],
      ['a cipher mode without end', cipherMode, long],
      ['a hash without end', hashSpec, long],
      ['an unknown cipher', cipherName, text('foo')],
      ['a mode without generator', cipherMode, text('xts')],
      ['an unknown mode', cipherMode, text('foo-plain64')],
      ['an unknown generator', cipherMode, text('xts-foo')],
      ['an unknown hash of the generator', cipherMode, text('xts-plain:foo')],
      ['an unknown hash', hashSpec, text('foo')],
      ['a payload at 0', 104, word(0)],
      ['a payload at sector 7', 104, word(7)],
      ['a payload at sector 8', 104, word(8)],
      ['no key bytes', 108, word(0)],
      ['one key byte too many', 108, word(65)],
      ['no iterations for the master key', 164, word(0)],
      ['a slot in no state', slot(0, 'active'), word(5)],
      ['a slot without iterations', slot(0, 'iterations'), word(0)],
      ['a slot at 0', slot(0, 'key_material_offset'), word(0)],
      ['two slots at one place', slot(1, 'key_material_offset'), word(8)],
      ['no stripes', slot(0, 'stripes'), word(0)],
      ['one stripe', slot(5, 'stripes'), word(1)],
      ['4 G stripes', slot(1, 'stripes'), word(0xffffffff)],
    ];

    for (const [what, offset, bytes] of mutations) {
      it(`by ${what} are refused in the words of qemu-img`, () => {
        const damaged = Uint8Array.from(whole);
        damaged.set(bytes, offset);
        expectSame(damaged);
      });
    }

    for (const mode of ['cbc-essiv', 'cbc-essiv:sha1', 'cbc-essiv:sha512']) {
      it(`by the mode ${mode} are refused in the words of qemu-img`, () => {
        const damaged = Uint8Array.from(essiv);
        damaged.set(text(mode), cipherMode);
        expectSame(damaged);
      });
    }

    function expectSame(damaged: Uint8Array): void {
      fs.writeFileSync(at('damaged.luks'), damaged);
      const image = `driver=luks,file.filename=${at('damaged.luks')}`;
      const { stderr, status } = runQemuImg(['info', '--image-opts', image]);
      expect(status).toBe(1);
      let message = 'opened';
      try {
        readHeader({ storage: new MemoryStorage(damaged), base: 0 });
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
        message = error.message;
      }
      expect(stderr).toContain(`Could not open '${image}': ${message}`);
    }

    it('by a slot beyond the payload are refused, where qemu-img counts in 32 bits', () => {
      const damaged = Uint8Array.from(whole);
      damaged.set(word(0xffffffff), slot(0, 'key_material_offset'));
      expect(codeOf(() => readHeader({ storage: new MemoryStorage(damaged), base: 0 }))).toBe('luks/slot-late');
    });

    it('by more rounds than anybody waits for are refused when a passphrase is tried', () => {
      for (const offset of [164, slot(0, 'iterations')]) {
        const damaged = Uint8Array.from(whole);
        damaged.set(word(mostIterations + 1), offset);
        const place = { storage: new MemoryStorage(damaged), base: 0 };
        const header = readHeader(place);
        expect(codeOf(() => openAnySlot(place, header, secretBytes))).toBe('crypto/iterations');
      }
    });
  });

  it('are not made with what LUKS, or this program, has not; the words are those of qemu-img where it has it not either', () => {
    const rows: readonly [options: string, same: boolean][] = [
      ['cipher-alg=foo', true],
      ['cipher-alg=des', true],
      ['cipher-alg=3des', true],
      ['cipher-mode=foo', true],
      ['ivgen-alg=foo', true],
      ['ivgen-hash-alg=foo', true],
      ['hash-alg=foo', true],
      ['cipher-alg=cast5-128', true],
      ['ivgen-alg=essiv,ivgen-hash-alg=sha1', true],
      ['ivgen-alg=essiv,ivgen-hash-alg=sha384', true],
      ['cipher-alg=serpent-256', false],
      ['cipher-alg=twofish-128', false],
      ['cipher-alg=cast5-128,cipher-mode=cbc', false],
    ];
    for (const [options, same] of rows) {
      let message = 'made';
      try {
        createLuks({ storage: new MemoryStorage(), base: 0 }, namedAlgorithms(optionsOf(options)), secretBytes, 1);
      } catch (error) {
        if (!(error instanceof ImageError)) throw error;
        message = error.message;
      }
      if (same) {
        const theirs = runWithSecrets('qemu-img', [
          'create',
          '-q',
          '-f',
          'luks',
          '-o',
          `key-secret=s,${quick},${options}`,
          at('refused.luks'),
          '1M',
        ]);
        expect(theirs.stderr, options).toContain(message);
      } else {
        expect(message, options).toMatch(/^The cipher '(serpent|twofish|cast5)' is not available here/);
      }
    }
  });
});
