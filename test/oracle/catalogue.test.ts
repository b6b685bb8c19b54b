// A datastore of all public samples and many generated images: what the catalogue counts, held against what qemu-img says of every file.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { openCatalogue, type Catalogue } from '../../core/catalogue/catalogue.ts';
import { addDatastore, findDatastore } from '../../core/catalogue/datastores.ts';
import { imageRecord, listImages, type ImageEntry } from '../../core/catalogue/images.ts';
import { allEdges, parentEdge } from '../../core/catalogue/lineage.ts';
import { listProblems } from '../../core/catalogue/problems.ts';
import { scan, type ScanResult } from '../../core/catalogue/scan/scan.ts';
import { silentJob } from '../../core/job.ts';
import { describeWith, mustRun, runQemuImg, sharedFolder } from '../peers.ts';
import { processorTime } from '../processor-time.ts';
import { samplesIn, unpackSample } from '../samples/case.ts';
import { scratchFolder } from '../scratch.ts';

/** Copies of each of the five made images. The long mode has the 5,000 that the figures in docs/catalogue.md are for. */
const copies = process.env.PLATTER_LONG === '1' ? 1000 : 60;
/** Images read in a minute at least, headers only, on a warm cache. Generous: the machine may be shared. */
const perMinute = 2000;

describeWith({ peers: ['qemu-img'], shared: true }, 'a large datastore', () => {
  const root = scratchFolder('large-datastore');
  const store = path.join(root, 'store');
  let catalogue: Catalogue;
  let first: { result: ScanResult; seconds: number };
  let images: ImageEntry[];

  beforeAll(async () => {
    fs.mkdirSync(store);
    for (const sample of samplesIn(path.join(sharedFolder() ?? '', 'images'))) {
      const folder = path.join(store, 'samples', path.basename(sample.folder));
      fs.mkdirSync(folder, { recursive: true });
      unpackSample(sample, folder);
    }
    const kinds = { qcow2: 'qcow2', vmdk: 'vmdk', vdi: 'vdi', vhdx: 'vhdx', vpc: 'vhd' } as const;
    for (const [format, ending] of Object.entries(kinds)) {
      const seed = path.join(root, `seed.${ending}`);
      mustRun('qemu-img', ['create', '-q', '-f', format, seed, '64M']);
      for (let number = 0; number < copies; number++) {
        const folder = path.join(store, `made-${number % 20}`);
        fs.mkdirSync(folder, { recursive: true });
        fs.copyFileSync(seed, path.join(folder, `${number}.${ending}`));
      }
    }
    // File systems settle on what a file takes when it is written out.
    execFileSync('sync', ['-f', store]);
    catalogue = openCatalogue(path.join(root, 'catalogue.db'));
    addDatastore(catalogue, { path: store, name: 'large' });
    const begin = processorTime();
    const result = await scan(catalogue, { datastore: 'large' }, silentJob);
    first = { result, seconds: (processorTime() - begin) / 1000 };
    images = listImages(catalogue, { limit: 100_000 });
  }, 600_000);

  it('is scanned quickly, and again in no time', async () => {
    expect(first.result.added).toBe(images.length);
    expect(first.result.read / first.seconds).toBeGreaterThan(perMinute / 60);
    // What could not be read for a reason that may have passed is tried again each time.
    const triedAgain = images.filter(
      ({ problem }) => problem !== null && /^(storage|gate)\/|\/extent-open$|missing/.test(problem.code),
    );
    expect(triedAgain.length).toBeLessThan(5);
    const begin = processorTime();
    expect(await scan(catalogue, { datastore: 'large' }, silentJob)).toMatchObject({
      read: triedAgain.length,
      added: 0,
      changed: 0,
      gone: 0,
    });
    expect(processorTime() - begin).toBeLessThan(first.seconds * 1000);
  });

  it('shows every image with the format, the size and the chain that qemu-img sees', () => {
    const wrong: string[] = [];
    let chains = 0;
    const looked = images.filter(
      ({ path: name, problem }) => problem === null && (name.startsWith('samples/') || /^made-0\/\d+\./.test(name)),
    );
    for (const image of looked) {
      const said = runQemuImg(['info', '-U', '--output=json', image.file]);
      if (said.status !== 0) continue; // qemu-img cannot see it: nothing to hold against it
      const info = JSON.parse(said.stdout) as { format: string; 'virtual-size': number; 'backing-filename'?: string };
      // What it takes for raw it does not know (LUKS and differencing disks it knows; it reads the latter as if they were whole).
      if (info.format === 'raw' && image.format !== 'raw') continue;
      const parent = parentEdge(catalogue, image.id);
      const ours = [image.format, image.virtualSize, parent?.reference ?? null];
      const theirs = [info.format, info['virtual-size'], info['backing-filename'] ?? null];
      // It does not know the parents of VHD, VHDX and VDI.
      const blind = ['vpc', 'vhdx', 'vdi', 'vmdk'].includes(info.format);
      const from = blind ? ours.slice(0, 2) : ours;
      const against = blind ? theirs.slice(0, 2) : theirs;
      if (JSON.stringify(from) !== JSON.stringify(against))
        wrong.push(`${image.path}: ${String(from)} is not ${String(against)}`);
      if (blind || parent === null) continue;
      const chain = runQemuImg(['info', '-U', '--backing-chain', '--output=json', image.file]);
      const whole = chain.status === 0;
      chains++;
      if (whole !== isWhole(image.id)) wrong.push(`${image.path}: whole is ${String(whole)} for qemu-img`);
    }
    expect(wrong).toEqual([]);
    expect(looked.length).toBeGreaterThan(40);
    expect(chains).toBeGreaterThan(0);
  });

  /** Down to the last layer. */
  function isWhole(id: string): boolean {
    for (let at: string | null = id; at !== null;) {
      const edge = parentEdge(catalogue, at);
      if (edge === null) return imageRecord(catalogue, at).problem === null;
      if (edge.state !== 'whole' && edge.state !== 'outside') return false;
      at = edge.parentId;
    }
    return true;
  }

  it('counts images, problems, edges and bytes as counting the files does', () => {
    const made = images.filter(({ path: name }) => name.startsWith('made-'));
    expect(made).toHaveLength(5 * copies);
    // Copies of VHD and VDI share an identity with their likes; the other formats' copies rightly do not count.
    const twice = listProblems(catalogue).filter(
      ({ code, file }) => code === 'problem/duplicate-identity' && file?.includes('made-'),
    );
    expect(twice).toHaveLength(2 * copies);
    const large = findDatastore(catalogue, 'large');
    expect(large.images).toBe(images.length);
    expect(large.provisioned).toBe(images.reduce((sum, image) => sum + (image.virtualSize ?? 0), 0));
    const stat = (file: string): number => (fs.existsSync(file) ? fs.statSync(file).blocks * 512 : 0);
    const files = images.flatMap((image) => [
      image.file,
      ...imageRecord(catalogue, image.id).parts.map((part) => part.path),
    ]);
    expect(large.used).toBe(files.reduce((sum, file) => sum + stat(file), 0));
    const referring = images.filter((image) => imageRecord(catalogue, image.id).parent !== null);
    expect(allEdges(catalogue)).toHaveLength(referring.length);
  });
});
