// The `platter` command that does what a sheet does, quoted for a shell.

/** Values of creation options as they are handed to the engine. */
export type OptionValues = Record<string, string | number | boolean>;

/** One word for a shell. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Words that are false or null are left out. */
export function commandLine(verb: string, ...words: (string | number | false | null)[]): string {
  const kept = words.filter((word): word is string | number => word !== false && word !== null);
  return ['platter', verb, ...kept.map((word) => quoted(String(word)))].join(' ');
}

/** `-o a=b,c=d`; a comma within a value is doubled. */
export function optionWords(options: OptionValues): string[] {
  const pairs = Object.entries(options).map(([name, value]) => {
    const text = typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value);
    return `${name}=${text.replaceAll(',', ',,')}`;
  });
  return pairs.length === 0 ? [] : ['-o', pairs.join(',')];
}

/** Passphrases by name as a command takes them: from a file, never in the line itself. */
export function secretWords(secrets: Readonly<Record<string, string>>): string[] {
  return Object.keys(secrets).flatMap((id) => ['--object', `secret,id=${id},file=PASSPHRASE-FILE`]);
}
