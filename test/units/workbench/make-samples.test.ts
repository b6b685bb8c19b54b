// The sample images: other programs say what they are, and that the damaged one is damaged as it is meant to be.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { openCatalogue } from '../../../core/catalogue/catalogue.ts';
import { listDatastores } from '../../../core/catalogue/datastores.ts';
import { resolveImage } from '../../../core/catalogue/images.ts';
import { findParent, parentEdge } from '../../../core/catalogue/lineage.ts';
import { relink } from '../../../core/catalogue/relink.ts';
import { jobWithSignal, silentJob } from '../../../core/job.ts';
import { addSamples } from '../../../core/workbench/samples/add-samples.ts';
import { makeSamples, sampleNames } from '../../../core/workbench/samples/make-samples.ts';
import { describeWith, mustRun } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

const root = scratchFolder('make-samples');
const namesIn = (folder: string): string[] => fs.readdirSync(folder, { recursive: true }).map(String).sort();

describeWith({ peers: ['qemu-img', 'qemu-io', 'fsck.fat', 'mcopy', 'sfdisk'] }, 'sample images', () => {
  it('are disks that other programs read, one of them damaged, one without its parent', async () => {
    const folder = path.join(root, 'new', 'Platter samples');
    const images = await makeSamples(folder, silentJob);
    expect(namesIn(folder)).toEqual(['moved', ...Object.values(sampleNames)].sort());
    const at = { cwd: folder };
    for (const [name, extra] of [
      [sampleNames.disk, false],
      [sampleNames.overlay, true],
    ] as const) {
      mustRun('qemu-img', ['check', name], at);
      mustRun('qemu-img', ['convert', '-O', 'raw', name, 'disk.raw'], at);
      expect(mustRun('sfdisk', ['--json', 'disk.raw'], at)).toContain('"start": 2048');
      mustRun('sfdisk', ['--verify', 'disk.raw'], at);
      fs.writeFileSync(
        path.join(folder, 'part.raw'),
        fs.readFileSync(path.join(folder, 'disk.raw')).subarray(2048 * 512),
      );
      mustRun('fsck.fat', ['-n', 'part.raw'], at);
      const text = (file: string): string => mustRun('mcopy', ['-i', 'part.raw', `::${file}`, '-'], at);
      expect(text('README.TXT')).toContain('made by Platter');
      expect(text('LOG.TXT')).toContain('line 049152 of the log');
      if (extra) expect(text('OVERLAY.TXT')).toContain('layer above');
      else expect(() => text('OVERLAY.TXT')).toThrow();
      expect(() => text('OLDLOG.TXT')).toThrow();
    }
    const { stdout, status } = spawnSync('qemu-img', ['check', '--output=json', images.damaged], { encoding: 'utf8' });
    expect(status).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ leaks: 3, corruptions: 2 });
    mustRun('qemu-img', ['check', '-q', '-r', 'all', images.damaged], at);
    expect(mustRun('qemu-img', ['check', images.damaged], at)).toContain('No errors');
    mustRun('qemu-img', ['compare', images.damaged, images.disk], at);
    expect(spawnSync('qemu-img', ['map', images.orphan]).status).toBe(1);
    fs.copyFileSync(images.movedParent, path.join(folder, 'template.vmdk'));
    mustRun('qemu-img', ['compare', images.orphan, images.overlay], at);
  });

  it('replace nothing, and leave nothing behind when they cannot all be made', async () => {
    const folder = path.join(root, 'taken');
    fs.mkdirSync(folder);
    fs.writeFileSync(path.join(folder, sampleNames.damaged), 'mine');
    await expect(makeSamples(folder, silentJob)).rejects.toMatchObject({ code: 'image/target-exists' });
    expect(namesIn(folder)).toEqual([sampleNames.damaged]);
    const stopped = new AbortController();
    const job = jobWithSignal(stopped.signal, ({ phase, done }) => {
      if (phase === 'samples' && done === 3) stopped.abort();
    });
    await expect(makeSamples(path.join(root, 'half', 'way'), job)).rejects.toMatchObject({ code: 'request/cancelled' });
    expect(fs.existsSync(path.join(root, 'half'))).toBe(false);
  });

  it('are known to the catalogue, which finds the moved parent', async () => {
    const catalogue = openCatalogue(path.join(root, 'catalogue.db'));
    try {
      const folder = path.join(root, 'known');
      const { datastore, images } = await addSamples(catalogue, folder, silentJob);
      expect(listDatastores(catalogue)).toMatchObject([{ id: datastore, path: folder, images: 5 }]);
      const orphan = resolveImage(catalogue, images.orphan);
      expect(parentEdge(catalogue, orphan)).toMatchObject({ state: 'missing' });
      expect(findParent(catalogue, orphan)).toMatchObject([{ file: images.movedParent, by: 'identity' }]);
      await relink(catalogue, { image: orphan, parent: null, force: false }, silentJob);
      mustRun('qemu-img', ['compare', images.orphan, images.overlay]);
      const inside = await addSamples(catalogue, path.join(folder, 'again'), silentJob);
      expect(inside.datastore).toBe(datastore);
      await expect(addSamples(catalogue, root, silentJob)).rejects.toMatchObject({ code: 'datastore/nested' });
      expect(fs.existsSync(path.join(root, sampleNames.disk))).toBe(false);
    } finally {
      catalogue.close();
    }
  });
});
