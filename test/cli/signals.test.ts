// Commands that run one after the other in one process leave no listeners behind.
import path from 'node:path';
import { expect, it } from 'vitest';
import { program } from '../../cli/program.ts';
import { describeWith, mustRun } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'] as const;

describeWith({ peers: ['qemu-img'] }, 'signals', () => {
  it('are listened to while a command works, whether it ends well or not', async () => {
    const folder = scratchFolder('signals');
    const disk = path.join(folder, 'disk.qcow2');
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', disk, '1M']);
    const before = signals.map((signal) => process.listenerCount(signal));
    const codes: number[] = [];
    for (const args of [
      ['check', '-q', disk],
      ['resize', '-q', disk, '2M'],
      ['resize', '-q', disk, '1M'],
      ['compare', '-q', disk, disk],
      ['convert', '-O', 'raw', disk, path.join(folder, 'none', 'x.raw')],
    ]) {
      codes.push(await program(args));
      expect(signals.map((signal) => process.listenerCount(signal))).toEqual(before);
    }
    expect(codes.map((code) => code === 0)).toEqual([true, true, false, true, false]);
  });
});
