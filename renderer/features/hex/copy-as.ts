// Bytes as text for the clipboard: hex digits, a C array, base64, plain text.

export const copyForms = ['hex', 'c', 'base64', 'text'] as const;
export type CopyForm = (typeof copyForms)[number];

/** `bytes` in one of the forms. Text is UTF-8; what is none is replaced as decoders do. */
export function copyAs(form: CopyForm, bytes: Uint8Array): string {
  switch (form) {
    case 'hex':
      return Array.from(bytes, hexByte).join(' ');
    case 'c': {
      const rows: string[] = [];
      for (let at = 0; at < bytes.length; at += 12) {
        rows.push(`  ${Array.from(bytes.subarray(at, at + 12), (byte) => `0x${hexByte(byte)}`).join(', ')},`);
      }
      return `const unsigned char bytes[${bytes.length}] = {\n${rows.join('\n')}\n};\n`;
    }
    case 'base64': {
      let text = '';
      for (const byte of bytes) text += String.fromCharCode(byte);
      return btoa(text);
    }
    case 'text':
      return new TextDecoder('utf-8').decode(bytes);
  }
}

export function hexByte(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}
