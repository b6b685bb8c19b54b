// Packages for the tests of ova: disks made by qemu-img, descriptors written by hand, archives packed by GNU tar or byte by byte.
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { mustRun, runProgram } from '../../../peers.ts';
import { findProgram } from '../../../peer-packages.ts';

/** Why GNU tar cannot be used; null: it can. */
export const withoutTar: string | null = findProgram('tar') === null ? 'there is no tar' : null;

export const vmdkUri = 'http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized';

export interface DiskText {
  readonly id?: string;
  readonly href?: string;
  readonly capacity: number | string;
  readonly units?: string;
  readonly format?: string;
  /** Attributes of the element File, beside id and href. */
  readonly file?: string;
  /** Attributes of the element Disk, beside those above. */
  readonly disk?: string;
}

/** A descriptor with these disks. */
export function descriptorText(disks: readonly DiskText[], name = 'a machine'): string {
  const files = disks.flatMap(({ href, file = '' }, i) =>
    href === undefined ? [] : [`<File ovf:href="${href}" ovf:id="f${i + 1}" ${file}/>`],
  );
  const rows = disks.map(({ id, href, capacity, units, format = vmdkUri, disk = '' }, i) => {
    const reference = href === undefined ? '' : `ovf:fileRef="f${i + 1}"`;
    const unit = units === undefined ? '' : `ovf:capacityAllocationUnits="${units}"`;
    return `<Disk ovf:diskId="${id ?? `d${i + 1}`}" ovf:capacity="${capacity}" ${unit} ${reference} ovf:format="${format}" ${disk}/>`;
  });
  return `<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References>${files.join('')}</References>
  <DiskSection><Info>disks</Info>${rows.join('')}</DiskSection>
  <VirtualSystem ovf:id="vm"><Info>machine</Info><Name>${name}</Name></VirtualSystem>
</Envelope>
`;
}

/** A raw disk of `size` bytes with a mark at some places, and its streamOptimized form. */
export function makeDisk(folder: string, name: string, size: number, mark: number): { raw: string; vmdk: string } {
  const raw = path.join(folder, `${name}.raw`);
  const vmdk = path.join(folder, `${name}.vmdk`);
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 512 * 1024) bytes.fill(mark + at / 4096, at + 1000, at + 70_000);
  fs.writeFileSync(raw, bytes);
  mustRun('qemu-img', ['convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized', raw, vmdk]);
  return { raw, vmdk };
}

/** Packs files of `folder`, in this order. */
export function pack(archive: string, folder: string, names: readonly string[], ...options: readonly string[]): void {
  const { status, stderr } = runProgram('tar', ['-cf', archive, ...options, '-C', folder, ...names]);
  if (status !== 0) throw new Error(`tar: ${stderr}`);
}

/** Lines of a manifest for files of `folder`. */
export function manifestText(folder: string, names: readonly string[], algorithm = 'SHA256'): string {
  const lines = names.map((name) => {
    const digest = createHash(algorithm.toLowerCase())
      .update(fs.readFileSync(path.join(folder, name)))
      .digest('hex');
    return `${algorithm}(${name})= ${digest}`;
  });
  return `${lines.join('\n')}\n`;
}

export interface EntryBytes {
  readonly name: string;
  readonly content?: Uint8Array | string;
  /** What the header says instead of the length of the content. */
  readonly size?: number | Uint8Array;
  readonly type?: string;
}

/** An archive byte by byte, for headers that no tar would write. */
export function archiveOf(entries: readonly EntryBytes[]): Buffer {
  const parts: Buffer[] = [];
  for (const { name, content = '', size, type = '0' } of entries) {
    const bytes = Buffer.from(content);
    const header = Buffer.alloc(512);
    header.write(name, 0, 100, 'utf8');
    header.write(['0000644', '0000000', '0000000', ''].join('\0'), 100, 'latin1');
    const stated = size ?? bytes.length;
    if (typeof stated === 'number') header.write(stated.toString(8).padStart(11, '0'), 124, 'latin1');
    else header.set(stated, 124);
    header.write('00000000000', 136, 'latin1');
    header.write(type, 156, 'latin1');
    header.write(['ustar', '00'].join('\0'), 257, 'latin1');
    header.fill(0x20, 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
    parts.push(header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512));
  }
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}
