// The desktop program begins here: one instance, the workbench in this process, one window on it.
import { app, dialog, nativeTheme, shell } from 'electron';
import path from 'node:path';
import * as v from 'valibot';
import { openCatalogue } from '../core/catalogue/catalogue.ts';
import { cataloguePath } from '../core/catalogue/location.ts';
import { makeFence } from '../core/workbench/fence.ts';
import { startWorkbench } from '../core/workbench/workbench.ts';
import { Activity } from './activity.ts';
import { scheme, windowOrigin } from './addresses.ts';
import { claimLinks, handOver, ownArguments, wishesOf, type Wish } from './arguments.ts';
import { answerWindow } from './calls.ts';
import { guardContents } from './guards.ts';
import { showMenu } from './menu.ts';
import { notifyOfEnds } from './notifications.ts';
import { OpenFiles } from './open-files.ts';
import { Preferences } from './preferences.ts';
import { TaskbarProgress } from './progress.ts';
import { askBeforeQuitting } from './quit.ts';
import { recoverWindow } from './recovery.ts';
import { registerScheme, serveWindow } from './scheme.ts';
import { languageOf, textsOf, type Texts } from './texts.ts';
import { Transport } from './transport.ts';
import { feedAddress, isNewer, newestRelease, watchReleases, type Release } from './updates.ts';
import { MainWindow } from './window.ts';

const project = path.resolve(import.meta.dirname, '../..');
/** While the window is worked on it comes from a server of its own (`npm run dev`); never in a packaged program. */
const devWindow = app.isPackaged ? undefined : process.env.PLATTER_DEV_WINDOW;
const address = new URL(devWindow ?? `${windowOrigin}/`).href;
/** Not by the URL's own idea: to it, schemes that it does not know have none. */
const origin = devWindow === undefined ? windowOrigin : new URL(devWindow).origin;

/** What was asked for before there was anything to ask. */
const early: Wish[] = [];
let fulfil = (wishes: readonly Wish[]): void => {
  early.push(...wishes);
};

function listenToSystem(): void {
  app.on('open-file', (event, file) => {
    event.preventDefault();
    fulfil([{ kind: 'open', path: file }]);
  });
  app.on('open-url', (event, text) => {
    event.preventDefault();
    fulfil([{ kind: 'link', text }]);
  });
}

function start(): void {
  const preferences = new Preferences(app.getPath('userData'));
  const texts = (): Texts => textsOf(languageOf(preferences));
  nativeTheme.themeSource = preferences.now.theme;
  const catalogue = openCatalogue(cataloguePath());
  const fence = makeFence(null, false);
  const workbench = startWorkbench({ catalogue, fence, version: app.getVersion() });
  const activity = new Activity(workbench.jobs);
  const transport = new Transport(workbench);

  app.on('web-contents-created', (_event, contents) => guardContents(contents, origin));
  askBeforeQuitting({
    activity,
    texts,
    window: () => window.current,
    async close() {
      await workbench.close();
      catalogue.close();
    },
  });

  serveWindow(path.join(project, 'dist', 'renderer'));
  const window = new MainWindow({
    origin,
    address,
    preload: path.join(import.meta.dirname, 'preload.cjs'),
    preferences,
    devTools: !app.isPackaged,
    made(made) {
      recoverWindow(made, { texts, ask: window.ask, quit: () => app.quit() });
      progress.show();
    },
  });
  const ask: typeof window.ask = (request) => {
    window.show();
    window.ask(request);
  };
  const progress = new TaskbarProgress(activity, () => window.current, texts);
  notifyOfEnds(activity, {
    texts,
    isWatched: () => window.current?.isFocused() === true,
    showJobs: () => ask({ kind: 'page', address: '#/jobs' }),
  });

  const files = new OpenFiles({
    workbench,
    preferences,
    texts,
    window: () => window.show(),
    ask: window.ask,
    recentChanged: () => drawMenu(),
  });
  const feed = feedAddress(path.join(project, 'package.json'));
  const drawMenu = (): void =>
    showMenu(
      {
        platform: process.platform,
        texts: texts(),
        recent: preferences.now.recent,
        devTools: !app.isPackaged,
        checkUpdates: feed === null ? null : preferences.now.checkUpdates,
      },
      {
        ask,
        open: () => void files.pick(),
        openRecent: (file) => void files.fulfil([{ kind: 'open', path: file }]),
        clearRecent: () => files.clearRecent(),
        setCheckUpdates: (on) => preferences.write({ checkUpdates: on, updatesCheckedAt: 0 }),
        checkNow: () => void (feed === null ? null : reportUpdate(feed, texts())),
      },
    );
  drawMenu();
  app.setAboutPanelOptions({ applicationName: 'Platter', applicationVersion: app.getVersion() });

  answerWindow({
    origin,
    window: () => window.current,
    connect: ({ webContents }) => transport.connect(webContents),
    openPaths: (paths) => void files.fulfil(paths.map((file) => ({ kind: 'open', path: file }))),
    setAppearance({ language, theme }) {
      const before = languageOf(preferences);
      preferences.write({ language, theme });
      nativeTheme.themeSource = theme;
      if (language !== before) drawMenu();
    },
    ready: () => window.listens(),
  });
  app.on('second-instance', (_event, _argv, _cwd, handed) => {
    const parsed = v.safeParse(handOver, handed);
    window.show();
    if (parsed.success) fulfil(wishesOf(parsed.output));
  });
  app.on('activate', () => window.show());

  window.show();
  fulfil = (wishes) => void files.fulfil(wishes);
  fulfil([...early.splice(0), ...wishesOf(ownArguments())]);
  if (feed !== null) watchReleases(feed, app.getVersion(), preferences, (found) => void offerUpdate(found, texts()));
}

/** The user asked: every outcome is said. */
async function reportUpdate(feed: string, texts: Texts): Promise<void> {
  try {
    const newest = await newestRelease(feed);
    if (isNewer(newest.version, app.getVersion())) await offerUpdate(newest, texts);
    else await dialog.showMessageBox({ message: texts('report-none', { version: app.getVersion() }) });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    await dialog.showMessageBox({ type: 'warning', message: texts('report-unreachable', { reason }) });
  }
}

async function offerUpdate({ version, page }: Release, texts: Texts): Promise<void> {
  const message = texts('report-update', { version, own: app.getVersion() });
  const buttons = page === null ? ['OK'] : ['OK', texts('show-page')];
  const { response } = await dialog.showMessageBox({ message, buttons, defaultId: 0, cancelId: 0 });
  // On the host of the feed, over HTTPS: see updates.ts.
  if (response === 1 && page !== null) await shell.openExternal(page);
}

app.enableSandbox();
registerScheme();
if (app.requestSingleInstanceLock({ ...ownArguments() })) {
  if (process.platform === 'win32') app.setAppUserModelId('platter');
  listenToSystem();
  claimLinks(scheme);
  void app.whenReady().then(() => {
    try {
      start();
    } catch (error) {
      dialog.showErrorBox('Platter', error instanceof Error ? error.message : String(error));
      app.exit(1);
    }
  });
} else app.exit(0);
