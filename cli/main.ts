// The command's entry: finds the verb, loads it, reads its arguments, runs it, and turns what went wrong into text and an exit code.
import module from 'node:module';

// Compiled code is kept beside the build, so that the next start need not compile it again.
if (!import.meta.url.endsWith('.ts')) {
  module.enableCompileCache(decodeURIComponent(new URL('../.cache', import.meta.url).pathname));
}

const { program } = await import('./program.ts');
process.exitCode = await program(process.argv.slice(2));
