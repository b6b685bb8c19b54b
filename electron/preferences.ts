// What the shell remembers: one small file, read with suspicion, replaced as a whole.
import fs from 'node:fs';
import path from 'node:path';
import * as v from 'valibot';

const coordinate = v.pipe(v.number(), v.integer(), v.minValue(-100_000), v.maxValue(100_000));
const extent = v.pipe(v.number(), v.integer(), v.minValue(100), v.maxValue(100_000));

/** Each field falls back by itself: one that is out of order costs only itself. */
const shape = v.object({
  bounds: v.fallback(v.nullable(v.object({ x: coordinate, y: coordinate, width: extent, height: extent })), null),
  maximized: v.fallback(v.boolean(), false),
  language: v.fallback(v.nullable(v.picklist(['en', 'zh-CN'])), null),
  theme: v.fallback(v.picklist(['system', 'light', 'dark']), 'system'),
  recent: v.fallback(v.pipe(v.array(v.pipe(v.string(), v.maxLength(4096))), v.maxLength(20)), []),
  checkUpdates: v.fallback(v.boolean(), false),
  /** Milliseconds since 1970; 0: never. */
  updatesCheckedAt: v.fallback(v.number(), 0),
});
export type Preferred = v.InferOutput<typeof shape>;

export class Preferences {
  readonly #file: string;
  #now: Preferred;

  constructor(folder: string) {
    this.#file = path.join(folder, 'shell.json');
    this.#now = v.parse(shape, readObject(this.#file));
  }

  get now(): Preferred {
    return this.#now;
  }

  /** Remembers. Where nothing can be written it lasts as long as the program. */
  write(changes: Partial<Preferred>): void {
    this.#now = { ...this.#now, ...changes };
    const fresh = `${this.#file}.${process.pid}`;
    try {
      fs.mkdirSync(path.dirname(this.#file), { recursive: true });
      fs.writeFileSync(fresh, `${JSON.stringify(this.#now, null, 2)}\n`, { mode: 0o600 });
      fs.renameSync(fresh, this.#file);
    } catch {
      fs.rmSync(fresh, { force: true });
    }
  }
}

function readObject(file: string): object {
  try {
    const found: unknown = JSON.parse(fs.readFileSync(file, 'utf8'));
    return typeof found === 'object' && found !== null ? found : {};
  } catch {
    return {}; // not there yet, or spoiled: begin anew
  }
}
