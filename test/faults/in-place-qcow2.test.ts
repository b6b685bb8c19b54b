// Changes in place that fail or are killed: qcow2 images that stand alone.
import { vi } from 'vitest';
import { changesInPlace } from './in-place-suite.ts';
import { qcow2Rows } from './verbs.ts';

vi.hoisted(() => {
  // No change goes past node:fs in this process. The processes that are killed make theirs as always.
  process.env.PLATTER_NO_KOFFI = '1';
  process.env.PLATTER_QEMU_COMPAT = '7.2';
});
const { program } = await import('../../cli/program.ts');

changesInPlace(qcow2Rows, program);
