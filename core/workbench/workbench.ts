// The program behind the window: one handler for each call of the contract.
import { implement, ORPCError } from '@orpc/server';
import os from 'node:os';
import { lastVerb } from '../block/journal/take-back.ts';
import type { Catalogue } from '../catalogue/catalogue.ts';
import {
  addDatastore,
  findDatastore,
  probeDatastore,
  removeDatastore,
  renameDatastore,
  setAlert,
} from '../catalogue/datastores.ts';
import { imageGraph } from '../catalogue/graph.ts';
import {
  countImages,
  listImages,
  listTags,
  placesOf,
  resolveImage,
  writeNote,
  writeTags,
} from '../catalogue/images.ts';
import { findingsOf } from '../catalogue/findings.ts';
import { allEdges, dependentsOf, findParent } from '../catalogue/lineage.ts';
import { forgetLoose, openImageFile } from '../catalogue/loose.ts';
import { listProblems } from '../catalogue/problems.ts';
import { ImageError } from '../errors/image-error.ts';
import { errorCodes } from '../errors/messages.ts';
import { allDrivers } from '../formats/registry.ts';
import { profiles as allProfiles } from '../profiles/profiles.ts';
import { newsOfCatalogue } from './catalogue-news.ts';
import { contract, type JobEntry } from './contract.ts';
import { requireWithin, type Fence } from './fence.ts';
import { factsOf } from './format-facts.ts';
import { decide, readGate, writeGate } from './kept-gate.ts';
import { Scope } from './scope.ts';
import { listFolder, roomAt } from './folders.ts';
import { ImageHost, type Connection, type ImageBounds } from './images/image-host.ts';
import type { MapAnswer } from './images/image-thread.ts';
import { CatalogueKeeper } from './keep-current.ts';
import { JobHost, type JobNews } from './jobs/job-host.ts';
import type { JobRecord } from './jobs/job-store.ts';
import { isWork, workFacts } from './jobs/works.ts';

export interface WorkbenchOptions {
  readonly catalogue: Catalogue;
  readonly fence: Fence;
  readonly version: string;
  /** How many images windows may have open, and how long. */
  readonly images?: ImageBounds;
}

/** Who calls; absent: this program itself. */
export interface CallContext {
  readonly connection?: Connection;
}

/** A running workbench. */
export interface Workbench {
  /** To be closed when the line to the window ends, and handed over with every call that comes over it. */
  connect(): Connection;
  readonly router: ReturnType<typeof makeRouter>;
  readonly jobs: JobHost;
  /** Ends jobs and closes images. */
  close(): Promise<void>;
}

export function startWorkbench(options: WorkbenchOptions): Workbench {
  const jobs = new JobHost(options.catalogue, options.fence);
  const images = new ImageHost(options.fence, () => readGate(options.catalogue), options.images);
  const keeper = new CatalogueKeeper(options.catalogue, jobs);
  const over = new AbortController();
  return {
    router: makeRouter(options, jobs, images, keeper, over.signal),
    jobs,
    connect: () => images.connect(),
    async close() {
      over.abort();
      await keeper.close();
      await jobs.close();
      await images.closeAll();
    },
  };
}

/** What the engine says of a fault goes to the window as code, detail and place; a bug as one sentence. */
async function translated<Result>(work: () => Result | Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ImageError) {
      throw new ORPCError('UNPROCESSABLE_CONTENT', { message: error.message, data: error.toWire(), cause: error });
    }
    throw error;
  }
}

function makeRouter(
  { catalogue, fence, version }: WorkbenchOptions,
  jobs: JobHost,
  images: ImageHost,
  keeper: CatalogueKeeper,
  over: AbortSignal,
) {
  const os_ = implement(contract)
    .$context<CallContext>()
    .use(({ context: { connection }, next }, input) => {
      const session = sessionIn(input);
      if (session !== null && connection !== undefined) images.claim(session, connection);
      return translated(async () => next());
    });
  const { program, gate, catalogue: known, datastores, images: image, profiles, jobs: job, sessions } = os_;
  const scope = new Scope(catalogue, fence);
  const done = (work: () => void): null => {
    work();
    return null;
  };
  return os_.router({
    program: {
      about: program.about.handler(() => ({
        version,
        platform: process.platform,
        catalogue: catalogue.path,
        setAside:
          catalogue.setAside === null
            ? null
            : { path: catalogue.setAside.path, reason: catalogue.setAside.reason.message },
        readOnly: fence.readOnly,
        roots: fence.roots,
        home: fence.roots?.[0] ?? os.homedir(),
      })),
      formats: program.formats.handler(() => allDrivers().map(factsOf)),
      space: program.space.handler(({ input }) =>
        roomAt(
          fence,
          scope.datastores().filter(({ kind }) => kind === 'folder'),
          input.path,
        ),
      ),
      works: program.works.handler(() => workFacts()),
      folder: program.folder.handler(({ input }) => listFolder(fence, input.path, input.offset, input.limit)),
    },
    gate: {
      get: gate.get.handler(() => readGate(catalogue)),
      set: gate.set.handler(({ input }) => writeGate(catalogue, input)),
      decide: gate.decide.handler(({ input }) => {
        requireWithin(fence, input.path);
        return decide(catalogue, input.path, input.decision);
      }),
    },
    catalogue: {
      news: known.news.handler(({ signal }) => newsOfCatalogue(catalogue, [signal, over])),
    },
    datastores: {
      list: datastores.list.handler(() => scope.datastores()),
      add: datastores.add.handler(({ input }) => {
        requireWithin(fence, input.path);
        const id = addDatastore(catalogue, input);
        keeper.renew();
        return findDatastore(catalogue, id);
      }),
      probe: datastores.probe.handler(({ input }) => probeDatastore(catalogue, scope.datastore(input.id).id)),
      rename: datastores.rename.handler(({ input }) => {
        renameDatastore(catalogue, scope.datastore(input.id).id, input.name);
        return findDatastore(catalogue, input.name);
      }),
      alert: datastores.alert.handler(({ input }) => {
        const { id } = scope.datastore(input.id);
        setAlert(catalogue, id, input.ratio);
        return scope.datastore(id);
      }),
      remove: datastores.remove.handler(({ input }) =>
        done(() => {
          removeDatastore(catalogue, scope.datastore(input.id).id);
          keeper.renew();
        }),
      ),
      problems: datastores.problems.handler(({ input }) => {
        const names = new Set(scope.datastores().map(({ name }) => name));
        const problems = listProblems(catalogue).filter(({ datastore }) => names.has(datastore));
        return { problems: problems.slice(input.offset, input.offset + input.limit), total: problems.length };
      }),
    },
    images: {
      list: image.list.handler(({ input }) => {
        const filter = { ...input, within: scope.ids() };
        return { images: listImages(catalogue, filter), total: countImages(catalogue, filter) };
      }),
      places: image.places.handler(({ input: { ids, ...filter } }) =>
        placesOf(catalogue, ids, { ...filter, within: scope.ids() }),
      ),
      show: image.show.handler(({ input }) => scope.record(input.id)),
      find: image.find.handler(({ input }) => scope.record(resolveImage(catalogue, input.text))),
      open: image.open.handler(({ input }) => {
        requireWithin(fence, input.path);
        return scope.record(openImageFile(catalogue, input.path));
      }),
      forget: image.forget.handler(({ input }) => done(() => forgetLoose(catalogue, scope.image(input.id)))),
      write: image.write.handler(({ input }) => {
        const { name, note, addTags, removeTags } = input;
        const id = scope.image(input.id);
        if (name !== undefined || note !== undefined) {
          writeNote(catalogue, id, {
            ...(name === undefined ? {} : { name }),
            ...(note === undefined ? {} : { note }),
          });
        }
        writeTags(catalogue, id, { add: addTags, remove: removeTags });
        return scope.record(id);
      }),
      dependents: image.dependents.handler(({ input }) =>
        dependentsOf(catalogue, scope.image(input.id)).filter((id) => scope.sees(id)),
      ),
      edges: image.edges.handler(({ input }) => {
        const edges = allEdges(catalogue).filter(({ childId }) => scope.sees(childId));
        return { edges: edges.slice(input.offset, input.offset + input.limit), total: edges.length };
      }),
      graph: image.graph.handler(({ input: { id, limit } }) =>
        imageGraph(catalogue, { id: id === null ? null : scope.image(id), limit, within: scope.ids() }),
      ),
      findings: image.findings.handler(({ input }) => findingsOf(catalogue, scope.image(input.id))),
      tags: image.tags.handler(() => listTags(catalogue, scope.ids())),
      undo: image.undo.handler(({ input }) => {
        requireWithin(fence, input.path);
        return lastVerb(input.path);
      }),
      references: image.references.handler(({ input }) => images.references(input.image, input.secrets)),
      parents: image.parents.handler(({ input }) =>
        findParent(catalogue, scope.image(input.id)).filter(({ imageId }) => scope.sees(imageId)),
      ),
    },
    profiles: {
      list: profiles.list.handler(() => allProfiles),
      check: profiles.check.handler(({ input }) => images.profiles(input.image, input.secrets, input.profile)),
    },
    jobs: {
      start: job.start.handler(({ input }) => {
        if (!isWork(input.work)) throw new ImageError('job/no-work', { work: input.work });
        return { id: jobs.start(input.work, input.params, input.secrets) };
      }),
      list: job.list.handler(({ input }) => jobs.list(input.limit, input.offset).map(withSentence)),
      show: job.show.handler(({ input }) => withSentence(jobs.job(input.id))),
      lines: job.lines.handler(({ input }) => jobs.lines(input.id, input.after, input.limit)),
      cancel: job.cancel.handler(({ input }) => done(() => jobs.cancel(input.id))),
      pause: job.pause.handler(({ input }) => done(() => jobs.pause(input.id))),
      resume: job.resume.handler(({ input }) => done(() => jobs.resume(input.id))),
      forget: job.forget.handler(({ input }) => done(() => jobs.forget(input.id))),
      fill: job.fill.handler(({ input }) => {
        const { shares, ...tile } = jobs.fill(input.id);
        return { ...tile, shares: new Blob([shares]), refined: true, surveyed: tile.size, fault: null };
      }),
      leftovers: job.leftovers.handler(({ input }) => jobs.leftovers(input.id)),
      tidy: job.tidy.handler(({ input }) => jobs.tidy(input.id)),
      news: job.news.handler(({ signal }) => newsOf(jobs, signal)),
    },
    sessions: {
      open: sessions.open.handler(({ input: { image, secrets, lenient }, context }) =>
        images.open(image, secrets, lenient, context.connection ?? null),
      ),
      close: sessions.close.handler(({ input }) => done(() => images.close(input.session))),
      bytes: sessions.bytes.handler(async ({ input }) => {
        const bytes = await images.ask(input.session, 'bytes', input.view, input.start, input.length);
        return new Blob([bytes as Uint8Array<ArrayBuffer>]);
      }),
      unread: sessions.unread.handler(
        ({ input }) => images.ask(input.session, 'unread', input.view, input.start, input.length) as Promise<never>,
      ),
      regions: sessions.regions.handler(
        ({ input: { session, view, from, limit, structures } }) =>
          images.ask(session, 'regions', view, from, limit, structures) as Promise<never>,
      ),
      annotations: sessions.annotations.handler(
        ({ input }) =>
          images.ask(input.session, 'annotations', input.view, input.start, input.length) as Promise<never>,
      ),
      locate: sessions.locate.handler(async ({ input: { session, view, text, here } }) => ({
        offset: (await images.ask(session, 'locate', view, text, here)) as number,
      })),
      place: sessions.place.handler(
        ({ input }) => images.ask(input.session, 'place', input.view, input.offset) as Promise<never>,
      ),
      guestOf: sessions.guestOf.handler(
        ({ input, signal }) =>
          images.askUntil(signal, input.session, 'guestOf', input.view, input.at, input.from) as Promise<never>,
      ),
      guestPlaces: sessions.guestPlaces.handler(
        ({ input, signal }) =>
          images.askUntil(signal, input.session, 'guestPlaces', input.view, input.at, input.from) as Promise<never>,
      ),
      map: sessions.map.handler(async ({ input, signal }) => {
        const { session, view, layer, level, first, cells } = input;
        const asked = images.askUntil(signal, session, 'map', view, layer, { level, first, cells });
        const { shares, ...tile } = (await asked) as MapAnswer;
        return { ...tile, shares: new Blob([shares]) };
      }),
      describe: sessions.describe.handler(
        ({ input, signal }) =>
          images.askUntil(signal, input.session, 'describe', input.view, input.at) as Promise<never>,
      ),
      snapshots: sessions.snapshots.handler(
        ({ input }) => images.ask(input.session, 'snapshots', input.limit) as Promise<never>,
      ),
      holders: sessions.holders.handler(({ input }) => images.ask(input.session, 'holders') as Promise<never>),
      contents: sessions.contents.handler(({ input }) => images.ask(input.session, 'contents') as Promise<never>),
      find: sessions.find.handler(
        ({ input: { session, view, ...asked }, signal }) =>
          images.askUntil(signal, session, 'find', view, asked) as Promise<never>,
      ),
      matches: sessions.matches.handler(
        ({ input: { session, view, pattern, start, length }, signal }) =>
          images.askUntil(signal, session, 'matches', view, pattern, start, length) as Promise<never>,
      ),
      unpacked: sessions.unpacked.handler(async ({ input: { session, view, start, length, codec } }) => {
        const bytes = await images.ask(session, 'unpacked', view, start, length, codec);
        return new Blob([bytes as Uint8Array<ArrayBuffer>]);
      }),
      compare: sessions.compare.handler(({ input }) => {
        requireWithin(fence, input.other.path);
        const { session, other, view, otherView, backwards, from, limit } = input;
        return images.ask(session, 'compare', { other, view, otherView, backwards }, from, limit) as Promise<never>;
      }),
    },
  });
}

/** The session that a call is about, before anything else of it was looked at; null: none. */
function sessionIn(input: unknown): string | null {
  if (typeof input !== 'object' || input === null || !('session' in input)) return null;
  return typeof input.session === 'string' ? input.session : null;
}

/** A job of an older program may have failed with a code that is gone: its sentence is the code then. */
function withSentence(job: JobRecord): JobEntry {
  const { error } = job;
  if (error === null) return { ...job, errorText: null };
  const known = (errorCodes as readonly string[]).includes(error.code);
  return { ...job, errorText: known ? ImageError.fromWire(error).message : error.code };
}

/** The news of all jobs until the listener goes away. What nobody fetches in time is dropped, newest kept: it is only news. */
async function* newsOf(jobs: JobHost, signal: AbortSignal | undefined): AsyncGenerator<JobNews, void, void> {
  const waiting: JobNews[] = [];
  let wake = (): void => {};
  const stop = jobs.onNews((news) => {
    if (waiting.length < mostNews) waiting.push(news);
    else if (news.kind === 'state')
      waiting.splice(
        waiting.findIndex(({ kind }) => kind !== 'state'),
        1,
        news,
      );
    wake();
  });
  const onAbort = (): void => wake();
  signal?.addEventListener('abort', onAbort);
  try {
    while (signal?.aborted !== true) {
      const news = waiting.shift();
      if (news !== undefined) yield news;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    stop();
    signal?.removeEventListener('abort', onAbort);
  }
}

const mostNews = 1000;
