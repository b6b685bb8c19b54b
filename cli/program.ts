// One run of the program, from its arguments to its exit code.
import { parseArguments, type CommandSpec } from './args.ts';
import { stopListening } from './progress.ts';
import { commands } from './commands.ts';
import { askNobody, withForce } from './dependents.ts';
import { followEverywhere, withFollowAll } from './gate-policy.ts';
import { isLevel10, programName } from './level.ts';
import { keepNoJournals, tellOfJournals, withNoUndo } from './undo-option.ts';
import { CommandError, flushOut, outLine, reportFailure, UsageError } from './print.ts';

/** Runs what `argv` asks for. Never throws; everything has been printed when it resolves. */
export async function program(argv: readonly string[]): Promise<number> {
  try {
    const code = await dispatch(argv);
    flushOut();
    return code;
  } catch (error) {
    return reportFailure(error);
  }
}

async function dispatch(argv: readonly string[]): Promise<number> {
  const [first, ...rest] = argv;
  if (first === undefined) throw new UsageError('Not enough arguments', null);
  if (first.startsWith('-') && first !== '-') return programOption(first, rest);
  if (first === 'help') return help(rest[0]);
  const entry = commands.find(({ name }) => name === first);
  if (entry === undefined) throw unknownCommand(first);
  const command = await entry.load();
  const spec = wholeSpec(command.spec);
  const args = parseArguments(spec, rest);
  if (args.help) {
    (await import('./usage.ts')).printCommandHelp(spec);
    return 0;
  }
  if (args.has('followAll')) followEverywhere();
  if (args.has('noUndo')) keepNoJournals();
  if (args.has('force')) askNobody();
  tellOfJournals();
  try {
    return await command.run(args);
  } finally {
    stopListening();
  }
}

/** A command with the options that commands share without saying so. */
function wholeSpec(spec: CommandSpec): CommandSpec {
  return withForce(withNoUndo(withFollowAll(spec)));
}

async function programOption(word: string, rest: readonly string[]): Promise<number> {
  if (word === '-h' || isPrefix(word, '--help')) return help(undefined);
  if (word === '-V' || isPrefix(word, '--version')) return version();
  if (word === '-T' || isPrefix(word, '--trace')) {
    if (rest.length === 0) {
      throw new UsageError(
        isLevel10 ? `option requires an argument -- 'T'` : `missing argument for option '${word}'`,
        null,
      );
    }
    throw new CommandError('tracing of internal events is not available here');
  }
  const letter = word.charAt(1);
  throw new UsageError(
    isLevel10 && letter !== '-' ? `invalid option -- '${letter}'` : `unrecognized option '${word}'`,
    null,
  );
}

function isPrefix(word: string, name: string): boolean {
  return word.length > 2 && name.startsWith(word);
}

async function help(verb: string | undefined): Promise<number> {
  const usage = await import('./usage.ts');
  if (verb === undefined) {
    usage.printProgramHelp();
    return 0;
  }
  const entry = commands.find(({ name }) => name === verb);
  if (entry === undefined) throw unknownCommand(verb);
  usage.printCommandHelp(wholeSpec((await entry.load()).spec));
  return 0;
}

async function version(): Promise<number> {
  const { versionText } = await import('./version.ts');
  outLine(`${programName} version ${versionText()}`);
  return 0;
}

function unknownCommand(name: string): Error {
  return new UsageError(`Command not found: ${name}`, null);
}
