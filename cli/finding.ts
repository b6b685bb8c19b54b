// One finding of a check or a repair, as a line on stderr.
import type { Finding } from '../core/formats/driver.ts';
import { actsAsQemuImg } from './level.ts';
import { complain, err } from './print.ts';

export function tellFinding(finding: Finding): void {
  // What QEMU reports as an error of its own, not as a finding.
  if (actsAsQemuImg && finding.code === 'qcow2/snapshot-table') {
    complain(finding.text);
    return;
  }
  const { file: at, offset, field } = finding.where;
  const where = `${at ?? ''}${offset === undefined ? '' : `+0x${offset.toString(16)}`}${field === undefined ? '' : ` ${field}`}`;
  err(`${finding.text}${actsAsQemuImg || where === '' ? '' : ` [${finding.code} at ${where}]`}\n`);
}

/** Of images that are repaired because their last writer did not close them, those that it was said of. */
const introduced = new Set<string>();

/** The same for an image that nobody asked to repair: what it is about comes first. */
export function tellUnasked(finding: Finding): void {
  const file = finding.where.file ?? '';
  if (!actsAsQemuImg && !introduced.has(file)) {
    introduced.add(file);
    err(`'${file}' was not closed by its last writer; it is repaired before it is changed:\n`);
  }
  tellFinding(finding);
}
