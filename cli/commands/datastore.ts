// platter datastore: folders whose images are kept in the catalogue.
import { openCatalogue, type Catalogue } from '../../core/catalogue/catalogue.ts';
import {
  addDatastore,
  findDatastore,
  listDatastores,
  probeDatastore,
  removeDatastore,
  setAlert,
  renameDatastore,
  type Datastore,
} from '../../core/catalogue/datastores.ts';
import { cataloguePath } from '../../core/catalogue/location.ts';
import { listProblems } from '../../core/catalogue/problems.ts';
import { scan, type ScanResult } from '../../core/catalogue/scan/scan.ts';
import type { Job } from '../../core/job.ts';
import { addSamples } from '../../core/workbench/samples/add-samples.ts';
import { defineCommand, readOutput, sharedOptions, type Arguments } from '../args.ts';
import { inOrder } from '../json.ts';
import { CommandError, outLine, quietLine, UsageError, warn } from '../print.ts';
import { startJob, wantsLines } from '../progress.ts';
import { chosenPolicy } from '../gate-policy.ts';
import { localTime } from '../local-time.ts';
import { humanSize } from '../size.ts';
import { table } from '../table.ts';

export const spec = defineCommand({
  name: 'datastore',
  summary: 'keep an eye on folders of images: add, scan, list, show, problems, rename, remove; sample images',
  opensImages: false,
  operands:
    'add FOLDER [NAME] | scan [NAME…] | list | show NAME | problems | rename NAME NEW | alert NAME PERCENT | remove NAME | ' +
    'samples FOLDER',
  options: {
    everything: {
      long: ['everything'],
      meaning: 'scan: look into every file, also where nothing seems to have changed',
    },
    noScan: { long: ['no-scan'], meaning: 'add: do not scan the folder at once' },
    output: sharedOptions.output,
    quiet: sharedOptions.quiet,
    bar: sharedOptions.bar,
    progress: sharedOptions.progress,
  },
  notes: [
    "The catalogue is a file of its own in the user's data folder (PLATTER_CATALOGUE names another). Removing a datastore forgets what is " +
      'known of its images; no image is touched.',
    'Exit codes: 0 done; 1 it could not be done; 2 problems: there are some.',
  ],
  examples: [
    ['datastore add /srv/images', 'make the folder a datastore and scan it'],
    ['datastore list', 'capacity, use and over-commitment of each'],
    ['datastore alert nas 150', 'promise at most one and a half times the capacity before it is a problem'],
    ['datastore samples ~/samples', 'make sample images to try things on; nothing that exists is replaced'],
    ['datastore problems', 'broken chains, images that cannot be opened, identities that stand twice'],
  ],
});

type Args = Arguments<keyof typeof spec.options>;

export async function run(args: Args): Promise<number> {
  const output = readOutput(args, (text) => new CommandError(text));
  const [verb = 'list', ...operands] = args.operands;
  const catalogue = openForCommand();
  try {
    switch (verb) {
      case 'add':
        return await add(catalogue, args, operands);
      case 'scan':
        return await scanAll(catalogue, args, operands, output);
      case 'list':
        expectOperands(operands, 0, 0);
        printList(listDatastores(catalogue), output);
        return 0;
      case 'show':
        expectOperands(operands, 1, 1);
        printOne(probeDatastore(catalogue, operands[0] ?? ''), output);
        return 0;
      case 'problems':
        expectOperands(operands, 0, 0);
        return printProblems(catalogue, output);
      case 'rename':
        expectOperands(operands, 2, 2);
        renameDatastore(catalogue, operands[0] ?? '', operands[1] ?? '');
        return 0;
      case 'alert':
        expectOperands(operands, 2, 2);
        setAlert(catalogue, operands[0] ?? '', readPercent(operands[1] ?? ''));
        return 0;
      case 'remove':
        expectOperands(operands, 1, 1);
        removeDatastore(catalogue, operands[0] ?? '');
        return 0;
      case 'samples':
        expectOperands(operands, 1, 1);
        return await makeSamples(catalogue, args, operands[0] ?? '');
      default:
        throw new UsageError(
          `Unknown action '${verb}' (expecting add, scan, list, show, problems, rename, alert, remove or samples)`,
          spec.name,
        );
    }
  } finally {
    catalogue.close();
  }
}

/** Opens the user's catalogue; says so if an unusable one had to be set aside. */
export function openForCommand(): Catalogue {
  const catalogue = openCatalogue(cataloguePath(), chosenPolicy().policy);
  const { setAside } = catalogue;
  if (setAside !== null) {
    warn(
      `${setAside.reason.message}; it was kept as '${setAside.path}' and a new one was begun: scan the datastores again`,
    );
  }
  return catalogue;
}

/** `120` or `120%`: 120 % of the capacity may be promised. */
function readPercent(text: string): number {
  const percent = /^\d{1,6}(\.\d+)?%?$/.test(text) ? Number.parseFloat(text) : NaN;
  if (!(percent >= 1 && percent <= 100_000)) throw new UsageError(`Invalid percentage '${text}'`, spec.name);
  return percent / 100;
}

function expectOperands(operands: readonly string[], least: number, most: number): void {
  if (operands.length < least) throw new UsageError('Not enough arguments', spec.name);
  const extra = operands[most];
  if (extra !== undefined) throw new UsageError(`Unexpected argument '${extra}'`, spec.name);
}

async function add(catalogue: Catalogue, args: Args, operands: readonly string[]): Promise<number> {
  expectOperands(operands, 1, 2);
  const id = addDatastore(catalogue, { path: operands[0] ?? '', name: operands[1] ?? null });
  const { name, path } = findDatastore(catalogue, id);
  quietLine(args.has('quiet'), `Datastore '${name}' at ${path}`);
  if (args.has('noScan')) return 0;
  return scanEach(catalogue, args, [id], 'human');
}

async function makeSamples(catalogue: Catalogue, args: Args, folder: string): Promise<number> {
  const command = startJob({ bar: args.has('bar'), lines: wantsLines(args), tidies: true });
  try {
    const { images } = await addSamples(catalogue, folder, command.job);
    command.end(true);
    for (const file of Object.values(images)) quietLine(args.has('quiet'), file);
    return 0;
  } catch (error) {
    command.end(false);
    const code = command.exitCode();
    if (code !== null) return code;
    throw error;
  }
}

async function scanAll(
  catalogue: Catalogue,
  args: Args,
  operands: readonly string[],
  output: 'human' | 'json',
): Promise<number> {
  const wanted =
    operands.length > 0 ? operands.map((name) => findDatastore(catalogue, name)) : listDatastores(catalogue);
  return scanEach(
    catalogue,
    args,
    wanted.map(({ id }) => id),
    output,
  );
}

async function scanEach(
  catalogue: Catalogue,
  args: Args,
  ids: readonly string[],
  output: 'human' | 'json',
): Promise<number> {
  const command = startJob({ bar: args.has('bar'), lines: wantsLines(args), tidies: true });
  const results: { readonly datastore: string; readonly result: ScanResult }[] = [];
  try {
    for (const id of ids) {
      const { name } = findDatastore(catalogue, id);
      results.push({ datastore: name, result: await scanOne(catalogue, id, args.has('everything'), command.job) });
    }
    command.end(true);
  } catch (error) {
    command.end(false);
    const code = command.exitCode();
    if (code !== null) return code;
    throw error;
  }
  if (output === 'json') outLine(inOrder(results.map(({ datastore, result }) => ({ datastore, ...result }))));
  else for (const { datastore, result } of results) quietLine(args.has('quiet'), sentence(datastore, result));
  return 0;
}

function scanOne(catalogue: Catalogue, datastore: string, everything: boolean, job: Job): Promise<ScanResult> {
  return scan(catalogue, { datastore, everything }, job);
}

function sentence(datastore: string, { files, added, changed, moved, gone, problems }: ScanResult): string {
  const parts = [`${files} files`, `${added} new images`];
  if (changed > 0) parts.push(`${changed} changed`);
  if (moved > 0) parts.push(`${moved} moved`);
  if (gone > 0) parts.push(`${gone} gone`);
  if (problems > 0) parts.push(`${problems} that cannot be opened`);
  return `${datastore}: ${parts.join(', ')}`;
}

function printList(stores: readonly Datastore[], output: 'human' | 'json'): void {
  if (output === 'json') {
    outLine(inOrder(stores));
    return;
  }
  const size = (bytes: number | null): string => (bytes === null ? '-' : humanSize(bytes));
  const rows = stores.map((store) => [
    store.name,
    store.device === null ? '-' : `${store.device.resource}/${store.device.fileSystem}`,
    String(store.images),
    String(store.problems),
    size(store.capacity),
    size(store.free),
    humanSize(store.provisioned),
    store.overcommit === null ? '-' : `${Math.round(store.overcommit * 100)} %${store.alert ? ' !' : ''}`,
    store.path,
  ]);
  const heads = ['NAME', 'STORAGE', 'IMAGES', 'BROKEN', 'CAPACITY', 'FREE', 'PROVISIONED', 'OVER-COMMIT', 'FOLDER'];
  for (const line of table(heads, rows)) outLine(line);
}

function printOne(store: Datastore, output: 'human' | 'json'): void {
  if (output === 'json') {
    outLine(inOrder(store));
    return;
  }
  const { device, capabilities } = store;
  const size = (bytes: number | null): string => (bytes === null ? 'unknown' : `${humanSize(bytes)} (${bytes} bytes)`);
  outLine(`datastore: ${store.name}`);
  outLine(`folder: ${store.path}`);
  if (device !== null) {
    outLine(
      `storage: ${device.resource} (${device.resourceName}), ${device.kind} ${device.source}, ${device.fileSystem}`,
    );
    const traits = [
      ...(device.model === null ? [] : [device.model]),
      ...(device.rotational === null ? [] : [device.rotational ? 'spinning' : 'not spinning']),
      ...(device.removable === true ? ['removable'] : []),
    ];
    if (traits.length > 0) outLine(`device: ${traits.join(', ')}`);
  }
  outLine(`hosts: ${store.hosts.join(', ')}`);
  outLine(`capacity: ${size(store.capacity)}`);
  outLine(`free: ${size(store.free)}`);
  outLine(`images: ${store.images}, ${store.problems} that cannot be opened`);
  outLine(`used by images: ${size(store.used)}`);
  outLine(`provisioned: ${size(store.provisioned)}`);
  const limit = `${Math.round(store.alertRatio * 100)} %`;
  if (store.overcommit !== null) {
    const said = store.alert ? `above the limit of ${limit}` : `limit ${limit}`;
    outLine(`over-commitment: ${(store.overcommit * 100).toFixed(1)} % (${said})`);
  }
  outLine(`last scan: ${store.scannedAt === null ? 'never' : localTime(store.scannedAt / 1000)}`);
  if (capabilities === null) return;
  outLine('the file system:');
  for (const [name, value] of Object.entries(capabilities)) {
    const said = value === null ? 'not known' : typeof value === 'number' ? size(value) : value ? 'yes' : 'no';
    outLine(`    ${capabilityNames[name as keyof typeof capabilityNames]}: ${said}`);
  }
}

const capabilityNames = {
  writable: 'writable',
  shared: 'shared with other machines',
  sparse: 'sparse files',
  holePunching: 'hole punching',
  reflink: 'copies that share blocks (reflink)',
  lazyThick: 'space reserved without writing it',
  directIo: 'direct I/O',
  atomicReplace: 'atomic replacement of files',
  caseSensitive: 'case-sensitive names',
  maxFileSize: 'largest file that could be made',
};

function printProblems(catalogue: Catalogue, output: 'human' | 'json'): number {
  const problems = listProblems(catalogue);
  if (output === 'json') outLine(inOrder(problems));
  else if (problems.length === 0) outLine('No problems.');
  else {
    for (const { severity, datastore, file, text } of problems) outLine(`${severity}: ${file ?? datastore}: ${text}`);
  }
  return problems.length > 0 ? 2 : 0;
}
