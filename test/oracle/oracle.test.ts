// Against the real qemu-img: info, map, check, compare, measure, convert and create agree in text, JSON and exit code.
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { describeWith, type Finished, startPeer, startPlatter } from '../peers.ts';
import { digestOfFile } from '../samples/digest.ts';
import { scratchFolder } from '../scratch.ts';
import { type LayerPlan, type OraclePlan, oraclePlans, type Step } from './cases.ts';

type Verb = 'info' | 'check' | 'map' | 'convert';

/** Runs a step that prepares the case; it must succeed. */
async function prepare(step: Step, cwd: string): Promise<void> {
  const [program, ...args] = step;
  const { status, stderr, stdout } = await startPeer(program, args, { cwd });
  if (status !== 0 || /failed|error/i.test(stdout))
    throw new Error(`${step.join(' ')}: exit ${status}: ${stderr}${stdout}`);
}

function createStep(layer: LayerPlan): Step {
  const size = layer.size === null ? [] : [String(layer.size)];
  return ['qemu-img', 'create', '-f', layer.format, ...layer.create, layer.file, ...size];
}

async function build(plan: OraclePlan, cwd: string): Promise<void> {
  for (const layer of plan.layers) {
    await prepare(createStep(layer), cwd);
    if (layer.writes.length > 0) {
      await prepare(['qemu-io', '-f', layer.format, ...layer.writes.flatMap((text) => ['-c', text]), layer.file], cwd);
    }
  }
  for (const step of plan.steps) await prepare(step, cwd);
}

interface Comparison {
  /** Compare stdout as JSON values, not as text. */
  readonly json?: boolean;
  /** Ours and qemu-img's differ in this name. */
  readonly names?: readonly [ours: string, theirs: string];
}

/** Runs the same arguments with both programs in `cwd` and compares all that they leave. */
async function agree(args: readonly string[], cwd: string, comparison: Comparison = {}): Promise<Finished> {
  const [oursName, theirsName] = comparison.names ?? ['', ''];
  const theirArgs = oursName === '' ? args : args.map((argument) => argument.replaceAll(oursName, theirsName));
  const [ours, theirs] = await Promise.all([startPlatter(args, { cwd }), startPeer('qemu-img', theirArgs, { cwd })]);
  const named = (text: string): string => (oursName === '' ? text : text.replaceAll(oursName, theirsName));
  const title = args.join(' ');
  expect(named(ours.stderr), `stderr of ${title}`).toBe(theirs.stderr);
  expect(ours.status, `exit code of ${title}`).toBe(theirs.status);
  if (comparison.json === true && theirs.stdout.trim() !== '') {
    expect(JSON.parse(named(ours.stdout)), `JSON of ${title}`).toEqual(JSON.parse(theirs.stdout));
  } else {
    expect(named(ours.stdout), `stdout of ${title}`).toBe(theirs.stdout);
  }
  return ours;
}

/**
 * The same for `map`, which tells what the file system says of the file. ext4 may turn small holes into data while it writes out, between
 * our look and qemu-img's: where the two differ, all is written out and both are asked again.
 */
async function agreeOnMap(args: readonly string[], cwd: string, comparison: Comparison = {}): Promise<void> {
  try {
    await agree(['map', ...args], cwd, comparison);
  } catch {
    for (const name of fs.readdirSync(cwd)) {
      const file = fs.openSync(path.join(cwd, name), 'r+');
      fs.fsyncSync(file);
      fs.closeSync(file);
    }
    await agree(['map', ...args], cwd, comparison);
  }
}

async function qemuImg(args: readonly string[], cwd: string): Promise<Finished> {
  return startPeer('qemu-img', args, { cwd });
}

async function compareCreate(plan: OraclePlan, cwd: string): Promise<void> {
  const top = plan.layers.at(-1);
  if (top === undefined) return;
  const [, ...args] = createStep(top);
  // Another name for the image and its data file; the same length, so that nothing else moves.
  const twin = args.map((argument) => (argument === top.file ? 'OURS' : argument.replace('disk.data', 'OURS.data')));
  const { status } = await agree(twin, cwd, { names: ['OURS', 'QEMU'] });
  if (status !== 0) return;
  await agree(['info', '--output=json', '-f', top.format, 'OURS'], cwd, { json: true, names: ['OURS', 'QEMU'] }).catch(
    async (error: unknown) => {
      // The space on disk may differ; nothing else may.
      const facts = async (name: string): Promise<unknown> => {
        const { stdout } = await qemuImg(['info', '--output=json', '-f', top.format, name], cwd);
        return { ...(JSON.parse(stdout.replaceAll(name, 'NAME')) as object), 'actual-size': 0 };
      };
      expect(await facts('OURS'), String(error)).toEqual(await facts('QEMU'));
    },
  );
  if (top.format === 'qcow2') {
    const check = await qemuImg(['check', '-f', 'qcow2', 'OURS'], cwd);
    expect(check.status, check.stdout + check.stderr).toBe(0);
  }
  const same = await qemuImg(['compare', '-f', top.format, '-F', top.format, 'OURS', 'QEMU'], cwd);
  expect(same.status, same.stdout + same.stderr).toBe(0);
}

async function compareConvert(plan: OraclePlan, cwd: string, main: string, format: string): Promise<void> {
  await agree(['convert', '-f', format, '-O', 'raw', main, 'ours.out'], cwd, { names: ['ours.out', 'qemu.out'] });
  expect(digestOfFile(path.join(cwd, 'ours.out'))).toEqual(digestOfFile(path.join(cwd, 'qemu.out')));

  const options = plan.convert.map((argument) => argument.replace('DATA', 'ours.file.data'));
  await agree(['convert', '-f', format, '-O', 'qcow2', ...options, main, 'ours.file'], cwd, {
    names: ['ours.file', 'qemu.file'],
  });
  const same = await qemuImg(['compare', '-f', 'raw', '-F', 'qcow2', 'qemu.out', 'ours.file'], cwd);
  expect(same.status, `${same.stdout}${same.stderr}`).toBe(0);
  const check = await qemuImg(['check', '-f', 'qcow2', 'ours.file'], cwd);
  expect(check.status, `${check.stdout}${check.stderr}`).toBe(0);
  const facts = async (name: string): Promise<unknown> => {
    const { stdout } = await qemuImg(['info', '--output=json', '-f', 'qcow2', name], cwd);
    return { ...(JSON.parse(stdout.replaceAll(name, 'NAME')) as object), 'actual-size': 0 };
  };
  expect(await facts('ours.file')).toEqual(await facts('qemu.file'));
}

async function compareCompare(cwd: string, main: string, format: string): Promise<void> {
  // qemu.out is the content as qemu-img read it.
  await agree(['compare', '-f', format, '-F', 'raw', main, 'qemu.out'], cwd);
  await agree(['compare', '-s', '-f', format, '-F', 'raw', main, 'qemu.out'], cwd);
  const { size } = fs.statSync(path.join(cwd, 'qemu.out'));
  if (size < 512) return;
  fs.copyFileSync(path.join(cwd, 'qemu.out'), path.join(cwd, 'other.raw'));
  const file = fs.openSync(path.join(cwd, 'other.raw'), 'r+');
  fs.writeSync(file, Buffer.from([0xa5, 0x5a]), 0, 2, Math.floor(size / 3));
  fs.ftruncateSync(file, size + 1024);
  fs.closeSync(file);
  await agree(['compare', '-f', format, '-F', 'raw', main, 'other.raw'], cwd);
}

async function runCase(plan: OraclePlan, index: number, cwd: string): Promise<void> {
  await build(plan, cwd);
  const top = plan.layers.at(-1);
  if (top === undefined) throw new Error('a case without layers');
  const { file: main, format } = top;
  const wants = (verb: Verb): boolean => plan.only === undefined || plan.only.includes(verb);
  // JSON for every case; the texts for people in turn with them.
  await agree(['info', '--output=json', ...(plan.layers.length > 1 ? ['--backing-chain'] : []), main], cwd, {
    json: true,
  });
  await agree(['info', '-f', format, ...(index % 2 === 0 ? ['--backing-chain'] : []), main], cwd);
  await agree(['check', '-f', format, '--output=json', main], cwd, { json: true });
  await agree(['check', '-f', format, main], cwd);
  if (wants('map')) {
    await agreeOnMap(['-f', format, '--output=json', main], cwd, { json: true });
    await agreeOnMap(['-f', format, main], cwd);
  }
  if (plan.only === undefined) {
    await agree(['measure', '-f', format, '-O', index % 2 === 0 ? 'qcow2' : 'raw', '--output=json', main], cwd, {
      json: true,
    });
    if (top.format === 'qcow2' && index % 3 === 0) {
      await agree(
        [
          'measure',
          '-O',
          'qcow2',
          ...(top.create[0] === '-o' ? ['-o', top.create[1] ?? ''] : []),
          '--size',
          String(top.size ?? 0),
        ],
        cwd,
      );
    }
  }
  if (wants('convert')) {
    await compareConvert(plan, cwd, main, format);
    await compareCompare(cwd, main, format);
  }
  if (plan.only === undefined) await compareCreate(plan, cwd);
}

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'we and qemu-img agree', () => {
  const scratch = scratchFolder('oracle');
  const plans = oraclePlans();
  it('on enough cases, each with a name of its own', () => {
    expect(plans.length).toBeGreaterThanOrEqual(150);
    expect(new Set(plans.map(({ name }) => name)).size).toBe(plans.length);
  });
  for (const [index, plan] of plans.entries()) {
    it.concurrent(plan.name, async () => {
      const cwd = path.join(scratch, String(index));
      fs.mkdirSync(cwd);
      await runCase(plan, index, cwd);
      fs.rmSync(cwd, { recursive: true });
    });
  }
});
