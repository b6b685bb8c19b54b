// The header of a file in a tar archive that is written here.
import { checksumPlace, largestOctalSize, tarHeader, tarType } from './spec.ts';

/** What the header says that it is: POSIX ustar, or GNU tar before POSIX (`--format=oldgnu`). */
export type TarForm = 'posix' | 'gnu';

/** A header of a plain file: octal sizes, and base 256 (as GNU tar has it) for 8 GiB and more. */
export function fileHeader(name: string, size: number, form: TarForm = 'posix'): Uint8Array {
  const octal = (value: number, width: number): string => value.toString(8).padStart(width - 1, '0');
  const field = new Uint8Array(12);
  if (size <= largestOctalSize) {
    field.set(Buffer.from(octal(size, 12)));
  } else {
    field[0] = 0x80;
    new DataView(field.buffer).setBigUint64(4, BigInt(size));
  }
  const bytes = tarHeader.serialise({
    name,
    mode: octal(0o644, 8),
    uid: octal(0, 8),
    gid: octal(0, 8),
    size: field,
    mtime: octal(Math.floor(Date.now() / 1000), 12),
    typeflag: tarType.file,
    ...(form === 'gnu'
      ? { magic: 'ustar ', version: ' ' }
      : { magic: 'ustar', version: '00', devmajor: octal(0, 8), devminor: octal(0, 8) }),
  });
  const { offset, length } = checksumPlace;
  bytes.fill(0x20, offset, offset + length);
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.set(Buffer.from(`${octal(sum, 7)}\0 `), offset);
  return bytes;
}
