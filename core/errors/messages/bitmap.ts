// Codes and sentences of dirty bitmaps.
import type { Sentence } from '../sentence.ts';

export const bitmapMessages = {
  'bitmap/not-found': (d) => `Dirty bitmap '${d.name}' not found`,
  'bitmap/exists': (d) => `Bitmap already exists: ${d.name}`,
  'bitmap/empty-name': 'Bitmap name cannot be empty',
  'bitmap/granularity': 'Granularity must be power of 2 and at least 512',
  'bitmap/version': (d) =>
    `Can't make bitmap '${d.name}' persistent in '${d.image}': Cannot store dirty bitmaps in qcow2 v2 files`,
  'bitmap/space': (d) =>
    `Can't make bitmap '${d.name}' persistent in '${d.image}': Too much space will be occupied by the bitmap. Use larger granularity`,
  'bitmap/name-long': (d) =>
    `Can't make bitmap '${d.name}' persistent in '${d.image}': Name length exceeds maximum (${d.allowed} characters)`,
  'bitmap/no-bytes': (d) => `Can't make bitmap '${d.name}' persistent in '${d.image}': The disk has no bytes`,
  'bitmap/too-many': (d) =>
    `Can't make bitmap '${d.name}' persistent in '${d.image}': Maximum number of persistent bitmaps is already reached`,
  'bitmap/directory-full': (d) =>
    `Can't make bitmap '${d.name}' persistent in '${d.image}': Not enough space in the bitmap directory`,
  'bitmap/inconsistent': (d) =>
    `Bitmap '${d.name}' is inconsistent and cannot be used\nTry block-dirty-bitmap-remove to delete this bitmap from disk`,
  'bitmap/sizes': (d) =>
    `Bitmaps are of different sizes (destination size is ${d.destination}, source size is ${d.source}) and can't be merged`,
  'bitmap/unsupported': (d) => `Can't store persistent bitmaps to ${d.image}: Operation not supported`,
  'bitmap/action': (d) => `Operation ${d.action} on bitmap ${d.name} failed: ${d.reason}`,
  'convert/no-source-bitmaps': 'Source lacks bitmap support',
  'convert/no-target-bitmaps': (d) => `Format driver '${d.format}' does not support bitmaps`,
  'convert/inconsistent-bitmap': (d) =>
    `Cannot copy inconsistent bitmap '${d.name}'\nTry --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it`,
  'convert/bitmap-create': (d) => `Failed to create bitmap ${d.name}: ${d.reason}`,
  'convert/bitmap-populate': (d) => `Failed to populate bitmap ${d.name}: ${d.reason}`,
} as const satisfies Record<string, Sentence>;
