// Colours of the style sheet as numbers that a canvas takes, in the theme that is shown.
import type { ClassLook } from './classes.ts';

/** A colour as a pixel of ImageData, and the shade of it that patterns are drawn with. */
export interface Ink {
  readonly pixel: number;
  readonly shade: number;
  readonly css: string;
  /** What stands out on it: for letters. */
  readonly letter: string;
}

type Rgb = readonly [number, number, number];

const littleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

function pixelOf([red, green, blue]: Rgb): number {
  return littleEndian
    ? ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0
    : ((red << 24) | (green << 16) | (blue << 8) | 255) >>> 0;
}

function mix(one: Rgb, two: Rgb, part: number): Rgb {
  return [0, 1, 2].map((at) => Math.round((one[at] ?? 0) * (1 - part) + (two[at] ?? 0) * part)) as unknown as Rgb;
}

function brightness([red, green, blue]: Rgb): number {
  return (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
}

/** Reads colours where `host` stands; the theme that holds there decides. */
export class Colours {
  readonly #probe: HTMLElement;
  readonly #known = new Map<string | number, Ink>();

  constructor(host: HTMLElement) {
    this.#probe = document.createElement('span');
    this.#probe.hidden = true;
    host.append(this.#probe);
  }

  close(): void {
    this.#probe.remove();
  }

  /** The theme is another: all are read anew. */
  forget(): void {
    this.#known.clear();
  }

  of({ colour }: Pick<ClassLook, 'colour'>): Ink {
    return this.ink(colour);
  }

  ink(colour: string | number): Ink {
    let ink = this.#known.get(colour);
    if (ink === undefined) {
      const rgb = typeof colour === 'number' ? this.#ramp(colour) : this.#read(colour);
      const ground = this.#read('--map-ground');
      const light = brightness(rgb) > 0.5;
      ink = {
        pixel: pixelOf(rgb),
        shade: pixelOf(mix(rgb, light ? [0, 0, 0] : [255, 255, 255], 0.32)),
        css: `rgb(${rgb.join(' ')})`,
        letter: light ? '#10151c' : '#ffffff',
      };
      if (colour === '--map-empty') ink = { ...ink, shade: pixelOf(mix(rgb, ground, 0.5)) };
      this.#known.set(colour, ink);
    }
    return ink;
  }

  /** From the start of the file to its end: three colours of the style sheet and what lies between them. */
  #ramp(at: number): Rgb {
    const middle = this.#read('--map-ramp-middle');
    return at < 0.5
      ? mix(this.#read('--map-ramp-start'), middle, at * 2)
      : mix(middle, this.#read('--map-ramp-end'), at * 2 - 1);
  }

  #read(name: string): Rgb {
    this.#probe.style.color = `var(${name})`;
    const numbers = getComputedStyle(this.#probe).color.match(/[\d.]+/g) ?? [];
    return [0, 1, 2].map((at) => Math.round(Number(numbers[at] ?? 0))) as unknown as Rgb;
  }
}
