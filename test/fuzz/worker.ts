// The process that mutants run in: takes an image and a range of numbers, tells before each what it is, and afterwards what came of it.
import type { FormatId } from '../../core/formats/format-id.ts';
import { driverNamed } from '../../core/formats/registry.ts';
import { exercise } from './exercise.ts';
import { fieldsIn, Mutator } from './mutate.ts';
import { reseal } from './reseal.ts';
import { seedImages } from './seeds.ts';

export interface Order {
  readonly format: FormatId;
  /** Mutants `first`, `first + 1`, … of all images taken together. */
  readonly first: number;
  readonly count: number;
}

export type Report =
  | { readonly kind: 'images'; readonly names: readonly string[]; readonly fields: number }
  | { readonly kind: 'begin'; readonly index: number; readonly text: string }
  | { readonly kind: 'fault'; readonly index: number; readonly text: string; readonly what: string }
  | { readonly kind: 'done'; readonly peak: number };

const cpuLimit = 2_000_000; // microseconds
const memoryLimit = 256 * 1024 * 1024;

/** Sends a report. */
function tell(report: Report): void {
  process.send?.(report);
}

async function work(order: Order): Promise<void> {
  const driver = driverNamed(order.format);
  const mutators: { name: string; mutator: Mutator }[] = [];
  let fields = 0;
  for (const { name, bytes } of seedImages(order.format)) {
    const places = await fieldsIn(order.format, bytes);
    fields += places.length;
    mutators.push({ name, mutator: new Mutator(`${order.format}/${name}`, bytes, places) });
  }
  tell({ kind: 'images', names: mutators.map(({ name }) => name), fields });
  let peak = 0;
  let faults = 0;
  for (let index = order.first; mutators.length > 0 && faults < 10 && index < order.first + order.count; index++) {
    const chosen = mutators[index % mutators.length];
    if (chosen === undefined) throw new Error('no image to mutate');
    const { bytes, text } = chosen.mutator.mutant(Math.floor(index / mutators.length));
    if (index % 4 !== 3) reseal(order.format, bytes);
    const title = `${chosen.name}: ${text}`;
    tell({ kind: 'begin', index, text: title });
    const fault = (what: string): void => {
      faults++;
      tell({ kind: 'fault', index, text: title, what });
    };
    // Only what the mutant itself takes is to be judged, not what earlier ones left behind.
    if (process.memoryUsage().arrayBuffers > 32 * 1024 * 1024) globalThis.gc?.();
    const before = process.cpuUsage();
    try {
      exercise(driver, bytes, index % 2 === 0);
    } catch (error) {
      const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
      fault(what);
    }
    const { user, system } = process.cpuUsage(before);
    if (user + system > cpuLimit) {
      tell({
        kind: 'fault',
        index,
        text: title,
        what: `took ${Math.round((user + system) / 1000)} ms of processor time`,
      });
    }
    const highest = process.resourceUsage().maxRSS * 1024;
    if (highest > memoryLimit && highest > peak) fault(`took ${Math.round(highest / 1048576)} MiB of memory`);
    peak = Math.max(peak, highest);
    // Lets what was told go out, so that a later hang does not hide it.
    await new Promise((resolve) => setImmediate(resolve));
  }
  tell({ kind: 'done', peak });
}

process.once('message', (order) => {
  void work(order as Order).then(() => process.disconnect());
});
