// platter map --picture: the characters stand where qemu-io wrote, in both views and all layers; colour on terminals only.
import { beforeAll, expect, it } from 'vitest';
import { describeWith, mustRun, runPlatter } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'platter map --picture', () => {
  const folder = scratchFolder('map-picture');
  const at = { cwd: folder };
  const platter = (...args: string[]) => runPlatter(['map', '--picture', ...args], { cwd: folder });
  /** The rows of characters, joined. */
  const drawn = (text: string): string =>
    text
      .split('\n')
      .filter((line) => /^[0-9a-f]{8,} /.test(line))
      .map((line) => line.replace(/^[0-9a-f]+ /, ''))
      .join('');

  beforeAll(() => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', 'base.qcow2', '4M'], at);
    mustRun('qemu-io', ['-c', 'write -P 1 0 128k', '-c', 'write -P 2 2M 64k', 'base.qcow2'], at);
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2'], at);
    mustRun(
      'qemu-io',
      ['-c', 'write -P 3 1M 64k', '-c', 'write -z 3M 64k', '-c', 'write -c -P 4 3968k 64k', 'top.qcow2'],
      at,
    );
  });

  it('draws the disk', () => {
    const { status, stdout } = platter('--width', '16', 'top.qcow2');
    expect(status).toBe(0);
    const row = '·'.repeat(64).split('');
    row[0] = row[1] = row[32] = '▒';
    row[16] = '█';
    row[48] = '0';
    row[62] = '▓';
    expect(drawn(stdout)).toBe(row.join(''));
    expect(stdout).toContain('Guest disk: 4 MiB, 64 KiB a character');
    expect(stdout).toMatch(/^▒ in a layer below +192 KiB +4\.7 %$/m);
    expect(stdout.split('\n')[2]).toMatch(/^00100000 /);
    expect(stdout).not.toContain('\u001b');
  });

  it('draws who supplies it, and names the files', () => {
    const { stdout } = platter('--layer=depth', '--width', '64', 'top.qcow2');
    expect(drawn(stdout)).toMatch(/^11·{14}0·{15}1·{15}0·{13}0·$/);
    expect(stdout).toContain('1 below: base.qcow2');
  });

  it('draws the file', () => {
    const { stdout } = platter('--file', '--width', '64', 'base.qcow2');
    // Header, refcount table, refcount block, L1 table, L2 table, three clusters of data.
    expect(drawn(stdout)).toMatch(/^[·◆]▥▥▤▤███$/);
    expect(stdout).toMatch(/^█ data +192 KiB/m);
  });

  it('refuses what does not go together, and what there is not', () => {
    expect(runPlatter(['map', '--width=5', 'top.qcow2'], { cwd: folder })).toMatchObject({ status: 1 });
    for (const [args, words] of [
      [['--output=json'], '--output cannot be given'],
      [['--layer=colour'], "no layer 'colour'"],
      [['--role=data-file'], "no file 'data-file'"],
      [['--file', '--layer=depth'], "There is no layer 'depth'; there are kinds, counts, pieces"],
      [['--file', '--snapshot=x'], 'for the disk'],
      [['--width=0'], '--width takes'],
    ] as const) {
      const { status, stdout, stderr } = platter(...args, 'top.qcow2');
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      expect(stderr).toContain(words);
    }
  });
});
