// Puts the stand-in in the place of `electron` for the program that is started after this; `node --import`.
import Sqlite from 'better-sqlite3';
import { registerHooks } from 'node:module';

const standIn = new URL('./electron.ts', import.meta.url).href;

registerHooks({
  resolve: (name, context, next) =>
    name === 'electron' ? { url: standIn, format: 'module-typescript', shortCircuit: true } : next(name, context),
});

// The database's native part is chosen by the platform: it is loaded before the program believes to be elsewhere.
new Sqlite(':memory:').close();
const { platform } = JSON.parse(process.env.STAND_IN_SCENE ?? '{}') as { platform?: NodeJS.Platform };
if (platform !== undefined) Object.defineProperty(process, 'platform', { value: platform });
