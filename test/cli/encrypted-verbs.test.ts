// Verbs in place on encrypted qcow2 images: LUKS and AES, an encrypted overlay on a plain base and the reverse; written and read by qemu-io.
import path from 'node:path';
import { expect, it } from 'vitest';
import { describeWith, mustRun, runPlatter, runQemuImg } from '../peers.ts';
import { scratchFolder } from '../scratch.ts';

describeWith({ peers: ['qemu-img', 'qemu-io'] }, 'encrypted qcow2', () => {
  const folder = scratchFolder('encrypted-verbs');
  const secret = ['--object', 'secret,id=s0,data=open sesame'];

  /** On a busy machine qemu-img cannot always time the derivation of a LUKS key. */
  const create = (args: readonly string[]): void => {
    for (let attempt = 1; ; attempt++) {
      const made = runQemuImg(args);
      if (made.status === 0) return;
      if (attempt === 20 || !made.stderr.includes('accurate CPU usage')) throw new Error(made.stderr);
    }
  };

  it.each([
    ['luks', 'top'],
    ['luks', 'base'],
    ['aes', 'top'],
    ['aes', 'base'],
  ] as const)('%s in the %s', { timeout: 120_000 }, (format, where) => {
    const [base, top] = ['base', 'top'].map((name) => path.join(folder, `${format}-${where}-${name}`)) as [
      string,
      string,
    ];
    const iterations = format === 'luks' ? ',encrypt.iter-time=10' : '';
    const locked = [...secret, '-o', `encrypt.format=${format},encrypt.key-secret=s0${iterations}`];
    const below = where === 'base' ? ',encrypt.key-secret=s0' : '';
    create(['create', '-q', '-f', 'qcow2', ...(where === 'base' ? locked : []), base, '4M']);
    const io = (image: string, ...commands: string[]): string =>
      mustRun('qemu-io', [...secret, '--image-opts', image, ...commands.flatMap((command) => ['-c', command])]);
    io(`driver=qcow2,file.filename=${base}${below}`, 'write -q -P 1 0 1M');
    const over = ['-u', '-b', base, '-F', 'qcow2', top, '4M'];
    create(['create', '-q', '-f', 'qcow2', ...(where === 'top' ? locked : []), ...over]);
    const image =
      where === 'top'
        ? `driver=qcow2,file.filename=${top},encrypt.key-secret=s0`
        : `driver=qcow2,file.filename=${top},backing.driver=qcow2,backing.file.filename=${base},backing.encrypt.key-secret=s0`;
    io(image, 'write -q -P 2 512k 1M');
    const reads = (): void =>
      expect(io(image, 'read -q -P 1 0 512k', 'read -q -P 2 512k 1M', 'read -q -P 0 2M 4M')).toBe('');
    const change = (verb: string, ...args: string[]): void => {
      const done = runPlatter([verb, ...args], { env: { PLATTER_PROGNAME: 'platter' } });
      expect(done, `${verb}: ${done.stderr}`).toMatchObject({ status: 0 });
    };
    change('resize', '-q', ...secret, '--image-opts', image, '6M');
    reads();
    change('snapshot', '-c', 'one', ...secret, '--image-opts', image);
    change('compact', '-q', ...secret, '--image-opts', image);
    reads();
    change('commit', '-q', ...secret, '--image-opts', image);
    reads();
    change('rebase', '-q', ...secret, '--image-opts', image, '-b', '');
    const alone = `driver=qcow2,file.filename=${top}${where === 'top' ? ',encrypt.key-secret=s0' : ''}`;
    expect(io(alone, 'read -q -P 1 0 512k', 'read -q -P 2 512k 1M', 'read -q -P 0 2M 4M')).toBe('');
  });
});
