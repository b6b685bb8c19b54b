// What is searched for in bytes: hex digits, text in UTF-8 or UTF-16, a GUID as Windows formats store it.
import { guid } from '../bytes/types.ts';
import { ImageError } from '../errors/image-error.ts';

export const patternKinds = ['bytes', 'utf-8', 'utf-16', 'guid'] as const;
export type PatternKind = (typeof patternKinds)[number];

/** Bytes of a pattern at most. */
export const longestPattern = 1024;

/** The bytes that `text` stands for. Throws `look/pattern`, `look/pattern-length`. */
export function patternBytes(kind: PatternKind, text: string): Uint8Array {
  const bytes = bytesOf(kind, text);
  if (bytes.length === 0 || bytes.length > longestPattern) {
    throw new ImageError('look/pattern-length', { allowed: longestPattern, found: bytes.length });
  }
  return bytes;
}

function bytesOf(kind: PatternKind, text: string): Uint8Array {
  switch (kind) {
    case 'bytes': {
      const digits = text.replaceAll(/\s|0x|,/gi, '');
      if (!/^(?:[0-9a-f]{2})*$/i.test(digits)) throw wrong(text, 'bytes in hex');
      return new Uint8Array(Buffer.from(digits, 'hex'));
    }
    case 'utf-8':
      return new Uint8Array(Buffer.from(text, 'utf8'));
    case 'utf-16':
      return new Uint8Array(Buffer.from(text, 'utf16le'));
    case 'guid': {
      const plain = text.trim().replace(/^\{(.*)\}$/, '$1');
      if (!/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(plain)) throw wrong(text, 'a GUID');
      const bytes = new Uint8Array(guid.width);
      guid.write(new DataView(bytes.buffer), 0, plain, true);
      return bytes;
    }
  }
}

function wrong(text: string, expected: string): ImageError {
  return new ImageError('look/pattern', { text, expected });
}
