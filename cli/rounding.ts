// Numbers as C prints them: a value that lies exactly between two results goes to the even one (JavaScript takes the larger).

/** C's `%.Nf` for a value that is not negative. */
export function fixedDigits(value: number, digits: number): string {
  const text = value.toFixed(digits);
  // A hundred digits hold every tie exactly: its fraction ends in a 5 and nothing.
  const beyond = value.toFixed(100).slice(-(100 - digits));
  const tie = /^50*$/.test(beyond);
  return tie && Number(text.at(-1)) % 2 === 1 ? (Number(text) - 10 ** -digits).toFixed(digits) : text;
}

/** C's `%.3g` for a value that is not negative. */
export function threeSignificantDigits(value: number): string {
  const text = value.toPrecision(3);
  const [digits = '', exponent] = text.split('e+');
  if (exponent !== undefined) return `${trimmed(digits)}e+${exponent.padStart(2, '0')}`;
  const fraction = digits.split('.')[1] ?? '';
  return trimmed(fixedDigits(value, fraction.length));
}

function trimmed(digits: string): string {
  return digits.includes('.') ? digits.replace(/\.?0+$/, '') : digits;
}
