// Help of the program and of every command: complete, from the tables.
import { describe, expect, it } from 'vitest';
import { commands } from '../../cli/commands.ts';
import { runPlatter } from '../peers.ts';

const ownName = { PLATTER_PROGNAME: 'platter', PLATTER_QEMU_COMPAT: '10.0' };

describe('help', () => {
  it('of the program names every command and every format', () => {
    const { status, stdout, stderr } = runPlatter(['--help'], { env: ownName });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    for (const { name, summary } of commands) expect(stdout).toContain(`  ${name.padEnd(10)}${summary}`);
    for (const format of ['raw', 'qcow2', 'vpc', 'vhdx', 'vmdk', 'vdi'])
      expect(stdout).toMatch(new RegExp(`\\b${format}\\b`));
    expect(runPlatter(['-h'], { env: ownName }).stdout).toBe(stdout);
    expect(runPlatter(['help'], { env: ownName }).stdout).toBe(stdout);
  });

  for (const entry of commands) {
    it(`of ${entry.name} has every option, examples, and no line too long to read`, async () => {
      const { spec } = await entry.load();
      const { status, stdout, stderr } = runPlatter([entry.name, '--help'], { env: ownName });
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(spec.name).toBe(entry.name);
      expect(spec.summary).toBe(entry.summary);
      for (const { short, long = [] } of Object.values(spec.options)) {
        if (short !== undefined) expect(stdout).toContain(`-${short}`);
        for (const name of long) expect(stdout).toContain(`--${name}`);
      }
      expect(spec.examples.length).toBeGreaterThan(0);
      expect(stdout).toContain(`platter ${spec.examples[0]?.[0]}`);
      expect(stdout.split('\n').filter((line) => line.length > 110)).toEqual([]);
      expect(runPlatter([entry.name, '-h', '--no-such-option'], { env: ownName }).stdout).toBe(stdout);
      expect(runPlatter(['help', entry.name], { env: ownName }).stdout).toBe(stdout);
    });

    it(`of ${entry.name}: no letter and no name stands for two options`, async () => {
      const rows = Object.values((await entry.load()).spec.options);
      const letters = rows.flatMap(({ short }) => (short === undefined ? [] : [short]));
      const names = rows.flatMap(({ long }) => long ?? []);
      expect(new Set(letters).size).toBe(letters.length);
      expect(new Set(names).size).toBe(names.length);
    });
  }

  it('says the version', () => {
    const { status, stdout } = runPlatter(['--version'], { env: ownName });
    expect(status).toBe(0);
    expect(stdout).toMatch(/^platter version \d+\.\d+\.\d+\n$/);
    expect(runPlatter(['-V'], { env: ownName }).stdout).toBe(stdout);
  });
});
