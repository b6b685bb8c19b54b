// What is wrong in the catalogue: images that cannot be opened, broken lineage, identities that stand twice, full datastores.
import type { Catalogue } from './catalogue.ts';
import { listDatastores } from './datastores.ts';
import { findParent, type EdgeState } from './lineage.ts';

/** Why an image could not be opened: `text` is the sentence for `code`, filled from `detail`. */
export interface KeptProblem {
  readonly code: string;
  readonly text: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** The problem in a row of images. */
export function keptProblem(row: {
  readonly problem_code: string | null;
  readonly problem_text: string | null;
  readonly problem_detail: string | null;
}): KeptProblem | null {
  if (row.problem_code === null) return null;
  const detail = JSON.parse(row.problem_detail ?? '{}') as Readonly<Record<string, unknown>>;
  return { code: row.problem_code, text: row.problem_text ?? '', detail };
}

/** One thing to look after. `code` is stable; `text` says it in a sentence, which is filled from `detail`. */
export interface Problem {
  readonly code: string;
  readonly severity: 'error' | 'warning';
  readonly datastore: string;
  /** Null: the datastore itself. */
  readonly imageId: string | null;
  readonly file: string | null;
  readonly text: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

const edgeTexts: Readonly<Record<EdgeState, ((reference: string) => string) | null>> = {
  whole: null,
  outside: null,
  missing: (reference) => `The parent '${reference}' is not there`,
  changed: (reference) => `The parent '${reference}' is another disk, or has changed since this image was based on it`,
  touched: (reference) => `The parent '${reference}' has been written since this image was first seen with it`,
  loop: () => 'The chain of parents comes back to this image',
  refused: (reference) => `The parent '${reference}' is no name of a file`,
};

/**
 * Formats whose own identity names one disk: two files with the same one are copies of each other, and programs that go by it take the
 * wrong one. (The CID of a VMDK and the DataWriteGuid of a VHDX name a state of the content; copies share it rightly.)
 */
const formatsWithDiskIds = ['vpc', 'vdi'];

/** Everything that is wrong, by datastore and path. */
export function listProblems(catalogue: Catalogue): Problem[] {
  const problems = [
    ...imageProblems(catalogue),
    ...edgeProblems(catalogue),
    ...duplicates(catalogue),
    ...full(catalogue),
  ];
  const key = (problem: Problem): string => `${problem.datastore}\0${problem.file ?? ''}`;
  return problems.sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
}

interface Row {
  id: string;
  datastore: string;
  file: string;
}

const rows = `select i.id, d.name as datastore, d.path || '/' || i.path as file`;
const joined = 'from image i join datastore d on d.id = i.datastore_id';

function imageProblems({ database }: Catalogue): Problem[] {
  const broken = database.all<
    Row & { problem_code: string; problem_text: string | null; problem_detail: string | null }
  >(
    `${rows}, i.problem_code, i.problem_text, i.problem_detail ${joined} where i.problem_code is not null and i.gone_at is null`,
  );
  const gone = database.all<Row & { children: number }>(
    `${rows}, (select count(*) from lineage l where l.parent_id = i.id) as children ${joined} where i.gone_at is not null`,
  );
  return [
    ...broken.flatMap((row) => {
      const problem = keptProblem(row);
      const { id, datastore, file } = row;
      return problem === null ? [] : [{ ...problem, severity: 'error' as const, datastore, imageId: id, file }];
    }),
    ...gone.map(({ id, datastore, file, children }) => ({
      code: 'problem/gone',
      severity: children > 0 ? ('error' as const) : ('warning' as const),
      datastore,
      imageId: id,
      file,
      text: children > 0 ? `The file is gone, and ${children} image(s) stood on it` : 'The file is gone',
      detail: { children },
    })),
  ];
}

/** Names that VMware, Hyper-V and VirtualBox give to the files of snapshots. */
const snapshotNames = [/-\d{6}\.vmdk$/i, /\.avhdx?$/i, /(^|[\\/])Snapshots[\\/][^\\/]+\.(vdi|vhdx?|vmdk)$/];

/** Missing parents for which others are looked for, in one list of problems. */
const mostSearched = 500;

function edgeProblems(catalogue: Catalogue): Problem[] {
  const { database } = catalogue;
  let searched = 0;
  const edges = database.all<Row & { reference: string; state: EdgeState }>(
    `${rows}, l.reference, l.state ${joined} join lineage l on l.child_id = i.id where i.gone_at is null`,
  );
  return edges.flatMap(({ id, datastore, file, reference, state }) => {
    const text = edgeTexts[state]?.(reference);
    if (text === undefined) return [];
    const about = { datastore, imageId: id, file, detail: { reference } };
    if (state === 'missing' && searched++ < mostSearched) return [missingParent(catalogue, about, text)];
    const severity = state === 'touched' ? 'warning' : 'error';
    return [{ code: `problem/parent-${state}`, severity, ...about, text } satisfies Problem];
  });
}

/** With the image that could be the parent; or as the rest of a snapshot, when nothing could. */
function missingParent(
  catalogue: Catalogue,
  about: Pick<Problem, 'datastore' | 'detail'> & { readonly imageId: string; readonly file: string },
  text: string,
): Problem {
  const { imageId, file } = about;
  const problem: Problem = { code: 'problem/parent-missing', severity: 'error', ...about, text };
  const [first, second] = findParent(catalogue, imageId);
  if (first !== undefined) {
    const more = second === undefined ? '' : ', among others';
    const detail = { ...about.detail, found: first.file, by: first.by };
    return { ...problem, detail, text: `${text}; '${first.file}' could be it by its ${first.by}${more}` };
  }
  if (!snapshotNames.some((name) => name.test(file))) return problem;
  return {
    ...problem,
    code: 'problem/orphan-snapshot',
    text: `${text}: the rest of a snapshot whose disk is not known`,
  };
}

function duplicates({ database }: Catalogue): Problem[] {
  const listed = formatsWithDiskIds.map((format) => `'${format}'`).join(', ');
  const found = database.all<Row & { own_id: string; format: string }>(
    `${rows}, i.own_id, i.format ${joined} where i.gone_at is null and i.format in (${listed}) and exists
       (select 1 from image o where o.own_id = i.own_id and o.format = i.format and o.id <> i.id and o.gone_at is null
        and (o.device <> i.device or o.inode <> i.inode)) order by file`,
  );
  const byId = new Map<string, (typeof found)[number][]>();
  for (const row of found) {
    const key = `${row.format} ${row.own_id}`;
    const same = byId.get(key);
    if (same === undefined) byId.set(key, [row]);
    else same.push(row);
  }
  return [...byId.values()].flatMap((group) =>
    group.map(({ id, datastore, file, own_id }): Problem => {
      const other = group.find((row) => row.id !== id)?.file ?? '';
      const more = group.length > 2 ? ` and ${group.length - 2} more` : '';
      const text = `The identity ${own_id} is also that of '${other}'${more}`;
      const about = { datastore, imageId: id, file, detail: { identity: own_id, other } };
      return { code: 'problem/duplicate-identity', severity: 'warning', ...about, text };
    }),
  );
}

function full(catalogue: Catalogue): Problem[] {
  return listDatastores(catalogue).flatMap(({ name, capacity, overcommit, alert }): Problem[] => {
    const about = { severity: 'warning' as const, datastore: name, imageId: null, file: null, detail: {} };
    if (capacity === null) {
      return [
        {
          ...about,
          code: 'problem/unreachable',
          severity: 'error',
          text: 'The folder cannot be reached at the moment',
        },
      ];
    }
    if (!alert || overcommit === null) return [];
    const percent = Math.round(overcommit * 100);
    const text = `The disks could grow to ${percent} % of the capacity`;
    return [{ ...about, code: 'problem/overcommitted', detail: { percent }, text }];
  });
}
