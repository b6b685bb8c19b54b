// The small images that mutants are made of: the project's own samples, and what qemu-img makes where it is installed.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { FormatId } from '../../core/formats/format-id.ts';
import { mustRun, peer } from '../peers.ts';
import { samplesIn, unpackSample } from '../samples/case.ts';
import { mustRunWithSecrets } from '../units/block/crypto/passphrases.ts';
import { archiveOf, descriptorText, makeDisk, manifestText } from '../units/formats/ova/packages.ts';

export interface SeedImage {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Arguments of `qemu-img create` between `-f FORMAT` and the name. */
const created: Partial<Record<FormatId, readonly (readonly string[])[]>> = {
  qcow: [[], ['-b', 'base.raw', '-F', 'raw']],
  vpc: [[], ['-o', 'subformat=fixed']],
  vhdx: [
    ['-o', 'block_size=1M,log_size=1M'],
    ['-o', 'subformat=fixed,log_size=1M'],
  ],
  vmdk: [
    [],
    ['-o', 'subformat=streamOptimized'],
    ['-o', 'subformat=monolithicFlat'],
    ['-o', 'subformat=twoGbMaxExtentSparse'],
    ['-b', 'base.vmdk', '-F', 'vmdk'],
  ],
  vdi: [[], ['-o', 'static=on']],
  qed: [[]],
};

const size = 2 * 1024 * 1024;

/** The images of `format` to start from; none where there is neither a sample nor qemu-img. */
export function seedImages(format: FormatId): SeedImage[] {
  const images: SeedImage[] = [];
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'platter-seeds-'));
  try {
    const suite = path.join(import.meta.dirname, '..', 'samples', format);
    for (const sample of fs.existsSync(suite) ? samplesIn(suite) : []) {
      const bytes = fs.readFileSync(unpackSample(sample, folder));
      // Large ones cost time and add nothing but zeroes.
      if (bytes.length > 0 && bytes.length <= 4 * 1024 * 1024) images.push({ name: sample.about.id, bytes });
    }
    if (peer('qemu-img') !== null && peer('qemu-io') !== null) images.push(...makeImages(format, folder));
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
  return images;
}

function makeImages(format: FormatId, folder: string): SeedImage[] {
  if (format === 'luks') return [makeLuks(folder)];
  if (format === 'ova') return [makeOva(folder)];
  const rows = created[format] ?? [];
  if (rows.length === 0) return [];
  const img = (...args: string[]): string => mustRun('qemu-img', args, { cwd: folder });
  img('create', '-q', '-f', 'raw', 'base.raw', String(size));
  mustRun('qemu-io', ['-f', 'raw', '-c', 'write -q -P 9 64k 200k', 'base.raw'], { cwd: folder });
  if (format === 'vmdk') img('convert', '-O', 'vmdk', 'base.raw', 'base.vmdk');
  return rows.map((options, index) => {
    const name = `made-${index}.${format}`;
    if (options.includes('subformat=streamOptimized')) {
      img('convert', '-f', 'raw', '-O', format, ...options, 'base.raw', name);
    } else {
      img('create', '-q', '-f', format, ...options, name, String(size));
      mustRun('qemu-io', ['-f', format, '-c', 'write -q -P 7 0 100k', '-c', 'write -q -P 8 1M 3k', name], {
        cwd: folder,
      });
    }
    return { name: `${format} ${options.join(' ')}`.trim(), bytes: fs.readFileSync(path.join(folder, name)) };
  });
}

/** A package of two disks with a manifest. */
function makeOva(folder: string): SeedImage {
  const one = makeDisk(folder, 'one', size, 1);
  const disks = [
    { href: 'one.vmdk', capacity: 2, units: 'byte * 2^20' },
    { href: 'two.raw', capacity: 4096, format: '', file: 'ovf:size="4096"' },
  ];
  fs.writeFileSync(path.join(folder, 'vm.ovf'), descriptorText(disks));
  fs.writeFileSync(path.join(folder, 'two.raw'), Buffer.alloc(4096, 3));
  fs.copyFileSync(one.vmdk, path.join(folder, 'one.vmdk'));
  const content = (name: string): Buffer => fs.readFileSync(path.join(folder, name));
  const names = ['vm.ovf', 'one.vmdk', 'two.raw'];
  const bytes = archiveOf([
    { name: 'vm.ovf', content: content('vm.ovf') },
    { name: 'vm.mf', content: manifestText(folder, names) },
    { name: 'one.vmdk', content: content('one.vmdk') },
    { name: 'two.raw', content: content('two.raw') },
  ]);
  return { name: 'ova', bytes };
}

/** An encrypted disk with few iterations: mutants are opened without a passphrase, so only what stands before that matters. */
function makeLuks(folder: string): SeedImage {
  const options = ['-o', 'key-secret=s,iter-time=10'];
  mustRunWithSecrets('qemu-img', ['create', '-q', '-f', 'luks', ...options, 'made.luks', '64k'], { cwd: folder });
  return { name: 'luks', bytes: fs.readFileSync(path.join(folder, 'made.luks')) };
}
