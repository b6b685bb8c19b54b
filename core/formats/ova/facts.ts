// What a package says of itself: the machine, the manifest, and each of its disks.
import type { FactTree, ImageFacts } from '../driver.ts';
import type { DiskView, OvaNode } from './node.ts';
import type { OvaPackage } from './package.ts';

/** The disks as far as they were opened; of the manifest only that there is one. */
export function ovaFacts(node: OvaNode): ImageFacts {
  const { contents, views, chosen } = node;
  const inner = chosen?.node === null || chosen?.driver === null ? null : (chosen?.driver.facts(chosen.node) ?? null);
  const systems = contents.descriptor.systems.map(({ id, name }) => name ?? id);
  return {
    clusterSize: inner?.clusterSize ?? null,
    encrypted: views.some((view) => factsOf(view)?.encrypted === true),
    dirty: views.some((view) => factsOf(view)?.dirty === true),
    backing: null,
    specific: {
      type: 'ova',
      data: {
        ...(systems.length === 0 ? {} : { 'virtual systems': systems }),
        descriptor: contents.files.descriptorName,
        ...(contents.manifest === null ? {} : { manifest: contents.manifestName }),
        signed: contents.signed,
        disks: views.map((view) => describe(contents, view)),
      },
    },
    snapshots: [],
    further: null,
  };
}

function factsOf({ node, driver }: DiskView): ImageFacts | null {
  return node === null || driver === null ? null : driver.facts(node);
}

function describe({ files }: OvaPackage, { disk, node, driver, problem }: DiskView): FactTree {
  const { file } = disk;
  const entry = files.entries?.find(({ name }) => name === file?.href);
  const stored = entry?.size ?? node?.files[0]?.storage.size;
  const size = node?.size ?? disk.disk.capacity;
  return {
    id: disk.disk.id,
    ...(file === null ? {} : { filename: file.href }),
    ...(driver === null ? {} : { format: driver.id }),
    ...(size === null ? {} : { 'virtual size': size }),
    ...(stored === undefined ? {} : { 'file size': stored }),
    ...(disk.disk.parentRef === null ? {} : { parent: disk.disk.parentRef }),
    ...(disk.disk.fileRef === null ? { empty: true } : {}),
    ...(problem === null ? {} : { problem: problem.message }),
  };
}
