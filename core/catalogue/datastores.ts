// Datastores: folders whose images the catalogue knows, the storage they lie on, and how full they are.
import crypto from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fromSystem, ImageError } from '../errors/image-error.ts';
import type { Catalogue } from './catalogue.ts';
import { takeOverLoose } from './loose.ts';
import { probeCapabilities, type Capabilities } from './storage/capabilities.ts';
import { deviceOf, type StorageDevice } from './storage/devices.ts';
import { mountOf } from './storage/mounts.ts';

export interface AddDatastore {
  readonly path: string;
  /** Null: the name of the folder, with a number if that is taken. */
  readonly name: string | null;
}

/** A datastore with its figures. Sizes in bytes, times in milliseconds since 1970. */
export interface Datastore {
  readonly id: string;
  readonly name: string;
  readonly path: string;
  /** `loose`: only single files of this folder are known, which were opened by name; it is not scanned, and not watched. */
  readonly kind: 'folder' | 'loose';
  readonly device: StorageDevice | null;
  readonly capabilities: Capabilities | null;
  readonly hosts: readonly string[];
  readonly createdAt: number;
  readonly scannedAt: number | null;
  /** Of the file system: null while it cannot be reached. */
  readonly capacity: number | null;
  readonly free: number | null;
  readonly images: number;
  readonly problems: number;
  /** Bytes that the files of the images take, and the sum of their virtual sizes. */
  readonly used: number;
  readonly provisioned: number;
  /** `provisioned / capacity`; null without a capacity. */
  readonly overcommit: number | null;
  /** Above this ratio `alert` is true. */
  readonly alertRatio: number;
  readonly alert: boolean;
}

interface DatastoreRow {
  id: string;
  name: string;
  path: string;
  kind: 'folder' | 'loose';
  device_id: string | null;
  capabilities: string | null;
  alert_ratio: number;
  created_at: number;
  scanned_at: number | null;
}

/**
 * Makes a folder a datastore: looks what it lies on and what that can do; scanning is another step. Throws `datastore/not-a-folder`,
 * `datastore/path-taken`, `datastore/nested`, `datastore/name-taken`.
 */
export function addDatastore({ database }: Catalogue, request: AddDatastore): string {
  const folder = realFolder(request.path);
  const device = findDevice(folder);
  const capabilities = probeCapabilities(folder, device);
  return database.transaction(() => {
    const others = database.all<{ name: string; path: string; kind: string }>('select name, path, kind from datastore');
    for (const other of others) {
      if (other.kind === 'loose') continue;
      const detail = { name: request.path, other: other.name, path: other.path };
      if (other.path === folder) throw new ImageError('datastore/path-taken', detail);
      if (holds(other.path, folder) || holds(folder, other.path)) throw new ImageError('datastore/nested', detail);
    }
    const id = crypto.randomUUID();
    const taken = new Set(others.map(({ name }) => name));
    if (request.name !== null && taken.has(request.name)) {
      throw new ImageError('datastore/name-taken', { name: request.name });
    }
    database.run(
      `insert into datastore (id, device_id, name, path, capabilities, created_at)
       values (:id, :device, :name, :path, :capabilities, :now)`,
      {
        id,
        device: device === null ? null : keepDevice(database, device),
        name: request.name ?? freeName(path.basename(folder) || folder, taken),
        // A row of loose files may stand under this path until its images are taken over.
        path: id,
        capabilities: JSON.stringify(capabilities),
        now: Date.now(),
      },
    );
    takeOverLoose(database, id, folder);
    database.run('update datastore set path = :folder where id = :id', { id, folder });
    const host = keepHost(database);
    database.run('insert into datastore_host (datastore_id, host_id) values (:id, :host)', { id, host });
    return id;
  });
}

function realFolder(name: string): string {
  let folder: string;
  try {
    folder = fs.realpathSync(name);
    if (fs.statSync(folder).isDirectory()) return folder;
  } catch (error) {
    throw fromSystem('storage/open', error, { file: name });
  }
  throw new ImageError('datastore/not-a-folder', { name }, { file: name });
}

/** What a folder lies on; null: nothing tells. */
export function findDevice(folder: string): StorageDevice | null {
  const mount = mountOf(folder);
  return mount === null ? null : deviceOf(mount);
}

function holds(folder: string, other: string): boolean {
  const relative = path.relative(folder, other);
  return relative !== '' && !relative.startsWith('..') && !path.isAbsolute(relative);
}

function freeName(wanted: string, taken: ReadonlySet<string>): string {
  let name = wanted;
  for (let number = 2; taken.has(name); number++) name = `${wanted} ${number}`;
  return name;
}

function keepDevice(database: Catalogue['database'], device: StorageDevice): string {
  const resource = `${device.resource}:${device.resourceName}`;
  database.run('insert or ignore into storage_resource (id, kind, name) values (:id, :kind, :name)', {
    id: resource,
    kind: device.resource,
    name: device.resourceName,
  });
  const id = `${device.source} ${device.fileSystem}`;
  const flag = (value: boolean | null): number | null => (value === null ? null : Number(value));
  database.run(
    `insert or replace into storage_device (id, resource_id, kind, source, file_system, model, rotational, removable, seen_at)
     values (:id, :resource, :kind, :source, :fileSystem, :model, :rotational, :removable, :now)`,
    {
      id,
      resource,
      kind: device.kind,
      source: device.source,
      fileSystem: device.fileSystem,
      model: device.model,
      rotational: flag(device.rotational),
      removable: flag(device.removable),
      now: Date.now(),
    },
  );
  return id;
}

function keepHost(database: Catalogue['database']): string {
  const name = os.hostname();
  database.run('insert or ignore into host (id, name) values (:id, :name)', { id: crypto.randomUUID(), name });
  return database.one<{ id: string }>('select id from host where name = :name', { name })?.id ?? '';
}

/** Every datastore by name; `withLoose`: also the folders of which only single files are known. */
export function listDatastores(catalogue: Catalogue, withLoose = false): Datastore[] {
  const rows = catalogue.database.all<DatastoreRow>('select * from datastore order by name');
  return rows.filter(({ kind }) => withLoose || kind === 'folder').map((row) => describe(catalogue, row));
}

/** The datastore with this name, id or folder. Throws `datastore/unknown`. */
export function findDatastore(catalogue: Catalogue, nameOrId: string): Datastore {
  const row = catalogue.database.one<DatastoreRow>(
    'select * from datastore where name = :text or id = :text or path = :path limit 1',
    { text: nameOrId, path: path.resolve(nameOrId) },
  );
  if (row === null) throw new ImageError('datastore/unknown', { name: nameOrId });
  return describe(catalogue, row);
}

/** Forgets the datastore and what is known of its images; touches no file. Throws `datastore/unknown`. */
export function removeDatastore(catalogue: Catalogue, nameOrId: string): void {
  const { id } = findDatastore(catalogue, nameOrId);
  catalogue.database.run('delete from datastore where id = :id', { id });
}

/** Renames it. Throws `datastore/unknown`, `datastore/name-taken`. */
export function renameDatastore(catalogue: Catalogue, nameOrId: string, name: string): void {
  const { database } = catalogue;
  database.transaction(() => {
    const { id } = findDatastore(catalogue, nameOrId);
    const other = database.one<{ id: string }>('select id from datastore where name = :name', { name });
    if (other !== null && other.id !== id) throw new ImageError('datastore/name-taken', { name });
    database.run('update datastore set name = :name where id = :id', { id, name });
  });
}

/** Sets the over-commitment above which the datastore is a problem: 1 is all that is promised fits. Throws `datastore/unknown`. */
export function setAlert(catalogue: Catalogue, nameOrId: string, ratio: number): void {
  const { id } = findDatastore(catalogue, nameOrId);
  catalogue.database.run('update datastore set alert_ratio = :ratio where id = :id', { id, ratio });
}

/** Looks again what the datastore lies on and can do; one that is not mounted at the moment stays as it was. Throws `datastore/unknown`. */
export function probeDatastore(catalogue: Catalogue, nameOrId: string): Datastore {
  const store = findDatastore(catalogue, nameOrId);
  const { id, path: folder } = store;
  const device = findDevice(folder);
  if (isOtherDevice(store.device, device) && holdsNothingKnown(catalogue, id)) return store;
  const capabilities = probeCapabilities(folder, device);
  catalogue.database.transaction(() => {
    catalogue.database.run('update datastore set device_id = :device, capabilities = :capabilities where id = :id', {
      id,
      device: device === null ? null : keepDevice(catalogue.database, device),
      capabilities: JSON.stringify(capabilities),
    });
  });
  return findDatastore(catalogue, id);
}

/** The folder under a mount point is no datastore: true when both are known and are not the same. */
export function isOtherDevice(before: StorageDevice | null, now: StorageDevice | null): boolean {
  if (before === null || now === null) return false;
  return before.source !== now.source || before.fileSystem !== now.fileSystem;
}

/** Images are known of it, and of those that are looked for none is there. */
function holdsNothingKnown({ database }: Catalogue, id: string): boolean {
  const known = database.all<{ file: string }>(
    `select d.path || '/' || i.path as file from image i join datastore d on d.id = i.datastore_id
     where d.id = :id and i.gone_at is null limit 50`,
    { id },
  );
  return known.length > 0 && !known.some(({ file }) => fs.existsSync(file));
}

function describe({ database }: Catalogue, row: DatastoreRow): Datastore {
  const sums = database.one<{ images: number; problems: number; used: number; provisioned: number }>(
    `select count(*) as images, count(problem_code) as problems, coalesce(sum(virtual_size), 0) as provisioned,
            coalesce(sum(allocated + coalesce((select sum(f.allocated) from image_file f where f.image_id = image.id), 0)), 0) as used
     from image where datastore_id = :id and gone_at is null`,
    { id: row.id },
  );
  const space = spaceOf(row.path);
  const provisioned = sums?.provisioned ?? 0;
  const overcommit = space === null || space.capacity === 0 ? null : provisioned / space.capacity;
  return {
    id: row.id,
    name: row.name,
    path: row.path,
    kind: row.kind,
    device: row.device_id === null ? null : deviceRow(database, row.device_id),
    capabilities: row.capabilities === null ? null : (JSON.parse(row.capabilities) as Capabilities),
    hosts: database
      .all<{ name: string }>(
        'select h.name from host h join datastore_host d on d.host_id = h.id where d.datastore_id = :id order by h.name',
        { id: row.id },
      )
      .map(({ name }) => name),
    createdAt: row.created_at,
    scannedAt: row.scanned_at,
    capacity: space?.capacity ?? null,
    free: space?.free ?? null,
    images: sums?.images ?? 0,
    problems: sums?.problems ?? 0,
    used: sums?.used ?? 0,
    provisioned,
    overcommit,
    alertRatio: row.alert_ratio,
    alert: row.kind === 'folder' && overcommit !== null && overcommit > row.alert_ratio,
  };
}

function deviceRow(database: Catalogue['database'], id: string): StorageDevice | null {
  const row = database.one<{
    kind: StorageDevice['kind'];
    resource: StorageDevice['resource'];
    resourceName: string;
    source: string;
    fileSystem: string;
    model: string | null;
    rotational: number | null;
    removable: number | null;
  }>(
    `select d.kind, r.kind as resource, r.name as resourceName, d.source, d.file_system as fileSystem, d.model, d.rotational, d.removable
     from storage_device d join storage_resource r on r.id = d.resource_id where d.id = :id`,
    { id },
  );
  if (row === null) return null;
  const flag = (value: number | null): boolean | null => (value === null ? null : value !== 0);
  return { ...row, rotational: flag(row.rotational), removable: flag(row.removable) };
}

function spaceOf(folder: string): { capacity: number; free: number } | null {
  try {
    const { blocks, bavail, bsize } = fs.statfsSync(folder);
    return { capacity: blocks * bsize, free: bavail * bsize };
  } catch {
    return null; // not mounted at the moment: the figures of the images are shown all the same
  }
}
