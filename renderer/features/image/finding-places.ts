// Where findings lie, as addresses of the hex view and of the map; and how they are counted.
import type { CheckResult, ImageInfo, ImageRecord, KeptFinding } from '../../../core/workbench/contract.ts';
import { addressOf } from '../../state/route.svelte.ts';

/** A finding of a check that was just made, or of the one that the catalogue keeps. */
export interface ShownFinding extends Omit<KeptFinding, 'foundAt'> {
  readonly fixed?: boolean;
}

export type Severity = KeptFinding['severity'];
/** The worst first. */
export const severities: readonly Severity[] = ['corruption', 'error', 'leak'];

/** How an image is repaired. */
export interface Repair {
  readonly what: 'leaks' | 'all';
  /** Path of the copy that is repaired; null: the image itself. */
  readonly copy: string | null;
  readonly relink: boolean;
}

export interface Counts {
  readonly corruptions: number;
  readonly leaks: number;
  readonly errors: number;
}

export function findingsIn({ findings }: CheckResult): ShownFinding[] {
  return findings.map(({ where, ...rest }) => ({ ...rest, place: where as KeptFinding['place'] }));
}

/** What the findings count for, by severity. */
export function countsOf(findings: readonly ShownFinding[]): Counts {
  const sum = (severity: Severity): number =>
    findings.reduce((total, one) => total + (one.severity === severity ? one.count : 0), 0);
  return { corruptions: sum('corruption'), leaks: sum('leak'), errors: sum('error') };
}

/** The engine's name for the file that an image is opened by. */
const mainRole = 'file';

/** Where a finding is seen; null: it has no place, or one in a file that is not of this image. */
export function addressesOf(
  { place }: ShownFinding,
  record: ImageRecord,
  info: ImageInfo | null,
): { readonly hex: string; readonly map: string } | null {
  if (place.offset === undefined) return null;
  const files = info?.files ?? [{ role: mainRole, path: record.file }, ...record.parts];
  const role = place.file === undefined ? files[0]?.role : files.find(({ path }) => path === place.file)?.role;
  if (role === undefined) return null;
  const query = { view: role, at: `0x${place.offset.toString(16)}` };
  const to = (tab: string): string => addressOf({ page: 'image', id: record.id, tab, query });
  return { hex: to('hex'), map: to('map') };
}
