// Target profiles: images of qemu-img that platforms take and refuse, rule by rule; what converts make, by the verdict of other programs.
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import { silentJob } from '../../../core/job.ts';
import type { ConvertParams } from '../../../core/operations/convert.ts';
import { convertFor } from '../../../core/profiles/convert-for.ts';
import type { DiskFacts } from '../../../core/profiles/disk-facts.ts';
import { chooseFor, planFor, sizeFor } from '../../../core/profiles/plan.ts';
import { profileNamed, profiles } from '../../../core/profiles/profiles.ts';
import { checkImage, judge, type ProfileVerdict } from '../../../core/profiles/verdict.ts';
import { describeWith, mustRun, runProgram } from '../../peers.ts';
import { scratchFolder } from '../../scratch.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;
const TiB = 1024 * GiB;

const plainFacts: DiskFacts = {
  path: '/images/disk.vhdx',
  format: 'vhdx',
  subformat: 'dynamic',
  virtualSize: 64 * GiB,
  fileLength: 4 * MiB,
  sparse: null,
  backing: null,
  dataFile: null,
  encrypted: false,
  adapter: null,
  currentSize: null,
  sizedByGeometry: false,
  guest: { table: 'gpt', efiSystemPartition: true, wholeDisk: null, kinds: ['fat32', 'ext4'], blank: false },
  guestProblem: null,
};
const verdict = (profile: string, facts: Partial<DiskFacts> = {}): ProfileVerdict =>
  judge({ ...plainFacts, ...facts }, profileNamed(profile));
const rules = ({ findings }: ProfileVerdict): string[] => findings.map(({ rule }) => rule);

describe('the declared profiles', () => {
  it('have unique names, rules that begin with them, and a source with an address for each rule', () => {
    const all = profiles.flatMap(({ id, rules: own }) => own.map((rule) => ({ id, rule })));
    expect(new Set(profiles.map(({ id }) => id)).size).toBe(profiles.length);
    expect(new Set(all.map(({ rule }) => rule.id)).size).toBe(all.length);
    for (const { id, rule } of all) {
      expect(rule.id).toMatch(new RegExp(`^${id}/[a-z0-9-]+$`));
      expect(new URL(rule.source.url).protocol).toMatch(/^https?:$/);
      expect(rule.source.title.length).toBeGreaterThan(10);
    }
  });

  it('are all in docs/profiles.md, rule by rule with their sources', () => {
    const text = fs.readFileSync(path.resolve(import.meta.dirname, '../../../docs/profiles.md'), 'utf8');
    const missing = profiles.flatMap(({ id, rules: own }) =>
      [`\`${id}\``, ...own.flatMap((rule) => [`\`${rule.id}\``, rule.source.url])].filter(
        (word) => !text.includes(word),
      ),
    );
    expect(missing).toEqual([]);
  });

  it('take what they make: their own target fits their own rules about the image', () => {
    for (const profile of profiles) {
      const chosen = chooseFor(profile, 3 * GiB + 512, { format: null, options: {} });
      expect(chosen.format).toBe(profile.target.format);
      expect(chosen.options).toMatchObject(profile.target.options);
    }
  });

  it('refuse a name that is none', () => {
    expect(() => profileNamed('moon')).toThrow(/no profile 'moon' \(known: azure, aws/);
  });
});

describe('limits of size', () => {
  it.each([
    ['hyperv-gen1', { format: 'vpc', virtualSize: 2041 * GiB }, ['hyperv-gen1/vhd-limit']],
    ['hyperv-gen1', { format: 'vpc', virtualSize: 2040 * GiB }, []],
    ['hyperv-gen1', { virtualSize: 3 * TiB }, ['hyperv-gen1/boot-limit']],
    ['hyperv-gen2', { virtualSize: 64 * TiB }, []],
    ['hyperv-gen2', { virtualSize: 64 * TiB + 512 }, ['hyperv-gen2/vhdx-limit']],
    ['aws', { virtualSize: 65 * TiB }, ['aws/largest']],
    ['workstation', { format: 'vmdk', subformat: 'monolithicSparse', virtualSize: 9 * TiB }, ['workstation/largest']],
    ['huawei-cloud', { fileLength: 129 * GiB }, ['huawei-cloud/plain-import']],
    ['huawei-cloud', { fileLength: 1025 * GiB }, ['huawei-cloud/largest-file']],
  ] as const)('%s, %o', (profile, facts, expected) => {
    // A BIOS cannot start from the plain facts' GPT: another rule's business.
    const bios = {
      guest: { ...plainFacts.guest!, table: 'gpt' as const, efiSystemPartition: profile !== 'hyperv-gen1' },
    };
    expect(rules(verdict(profile, { ...bios, ...facts }))).toEqual(expected);
  });

  it('beyond what the format can hold no convert is begun', () => {
    const azure = profileNamed('azure');
    expect(() => chooseFor(azure, 2041 * GiB, { format: null, options: {} })).toThrow(/at most 2190433320960/);
    expect(planFor(azure, { ...plainFacts, virtualSize: 2041 * GiB }).obstacle).toMatch(/at most 2040 GiB/);
    // 2039.5 MiB more would be too much: the size is rounded up before it is held against the limit.
    expect(sizeFor(azure, 2040 * GiB - 1)).toBe(2040 * GiB);
  });

  it('sizes are rounded up, never down', () => {
    expect(sizeFor(profileNamed('azure'), 1)).toBe(20 * MiB);
    expect(sizeFor(profileNamed('azure'), 20 * MiB + 1)).toBe(21 * MiB);
    expect(sizeFor(profileNamed('gcp'), 10 * GiB + 512)).toBe(11 * GiB);
    expect(sizeFor(profileNamed('kvm'), 513)).toBe(1024);
  });
});

describe('what the guest says', () => {
  const gpt = plainFacts.guest;
  const mbr = { table: 'mbr', efiSystemPartition: false, wholeDisk: null, kinds: ['ntfs'], blank: false } as const;

  it('a generation 1 machine does not start from a disk made for UEFI, nor generation 2 from an MBR', () => {
    expect(verdict('hyperv-gen1', { guest: gpt })).toMatchObject({
      outcome: 'warns',
      findings: [{ rule: 'hyperv-gen1/firmware', found: 'gpt + efi', expected: 'bios', fix: null }],
    });
    expect(verdict('hyperv-gen1', { guest: mbr }).outcome).toBe('fits');
    expect(rules(verdict('hyperv-gen2', { guest: mbr }))).toEqual(['hyperv-gen2/firmware']);
    expect(verdict('hyperv-gen2', { guest: gpt }).outcome).toBe('fits');
    expect(verdict('hyperv-gen2', { guest: { ...mbr, table: null, blank: true } }).outcome).toBe('fits');
  });

  it('AWS takes no encrypted volumes, and no convert helps', () => {
    const found = verdict('aws', { guest: { ...mbr, kinds: ['ntfs', 'BitLocker'] } });
    expect(found).toMatchObject({
      outcome: 'refuses',
      findings: [{ rule: 'aws/no-guest-encryption', found: 'BitLocker', fix: null }],
      plan: { obstacle: 'a volume in the guest is encrypted (BitLocker)' },
    });
  });

  it('an MBR does not reach beyond 2 TiB', () => {
    expect(rules(verdict('aws', { guest: mbr, virtualSize: 2 * TiB }))).toEqual([]);
    expect(rules(verdict('aws', { guest: mbr, virtualSize: 2 * TiB + 512 }))).toEqual(['aws/table']);
  });

  it('what could not be looked at is named, not passed', () => {
    const unseen = verdict('hyperv-gen2', { guest: null, guestProblem: 'the parent is missing' });
    expect(unseen).toMatchObject({ outcome: 'fits', notChecked: ['hyperv-gen2/firmware'] });
  });

  it('a sparse file on Windows is refused by Hyper-V and WSL', () => {
    expect(rules(verdict('hyperv-gen2', { sparse: true }))).toEqual(['hyperv-gen2/not-sparse']);
    expect(rules(verdict('wsl', { sparse: true }))).toContain('wsl/not-sparse');
    expect(rules(verdict('hyperv-gen2', { sparse: false }))).toEqual([]);
  });
});

describeWith({ peers: ['qemu-img', 'qemu-io', 'vhdiinfo', 'mke2fs', 'sgdisk'] }, 'images of qemu-img', () => {
  const cwd = scratchFolder('profiles');
  const at = (name: string): string => path.join(cwd, name);
  const create = (name: string, format: string, size: string, options = ''): void => {
    const more = options === '' ? [] : ['-o', options];
    mustRun('qemu-img', ['create', '-q', '-f', format, ...more, name, size], { cwd });
  };
  const check = async (name: string, profile: string): Promise<ProfileVerdict> => {
    const { verdicts } = await checkImage(at(name), {}, [profileNamed(profile)], silentJob);
    return verdicts[0]!;
  };
  const convertParams = (source: string, target: string): Omit<ConvertParams, 'format'> & { format: null } => ({
    sources: [{ path: at(source), options: {} }],
    snapshot: null,
    target: at(target),
    format: null,
    options: {},
    backing: null,
    existing: null,
    targetIsZero: false,
    compress: false,
    offload: false,
    sparse: 4096,
    cache: undefined,
    depth: 8,
    outOfOrder: true,
    rate: 0,
    salvage: false,
    verify: true,
    keepIdentity: false,
  });
  const convertInfo = (name: string, format: string): { 'virtual-size': number; 'format-specific'?: unknown } =>
    JSON.parse(mustRun('qemu-img', ['info', '--output=json', '-f', format, name], { cwd })) as {
      'virtual-size': number;
    };

  beforeAll(() => {
    create('odd.raw', 'raw', String(20 * MiB + 512));
    mustRun('qemu-io', ['-f', 'raw', '-c', 'write -P 65 0 64k', '-c', 'write -P 66 20M 512', 'odd.raw'], { cwd });
    create('base.qcow2', 'qcow2', '32M');
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top.qcow2'], { cwd });
    create('outside.qcow2', 'qcow2', '32M', 'data_file=outside.data');
  });

  it('Azure: fixed, exact, whole MiB, at least 20 MiB', async () => {
    create('good.vhd', 'vpc', '32M', 'subformat=fixed,force_size');
    create('dynamic.vhd', 'vpc', '32M', 'force_size');
    create('geometry.vhd', 'vpc', '32M', 'subformat=fixed');
    create('half.vhd', 'vpc', String(32 * MiB + 512 * 1024), 'subformat=fixed,force_size');
    create('small.vhd', 'vpc', '16M', 'subformat=fixed,force_size');
    create('disk.vhdx', 'vhdx', '32M');
    expect((await check('good.vhd', 'azure')).outcome).toBe('fits');
    expect(rules(await check('dynamic.vhd', 'azure'))).toEqual(['azure/format']);
    expect(rules(await check('disk.vhdx', 'azure'))).toEqual(['azure/format']);
    // qemu-img rounds 32 MiB up to a geometry: 33 546 240 bytes are no whole MiB, and only a new image can have another size.
    expect((await check('geometry.vhd', 'azure')).findings).toMatchObject([
      { rule: 'azure/whole-mib', fix: { kind: 'convert', profile: 'azure' } },
    ]);
    expect((await check('half.vhd', 'azure')).findings).toMatchObject([
      {
        rule: 'azure/whole-mib',
        found: 32 * MiB + 512 * 1024,
        expected: MiB,
        fix: { kind: 'resize', bytes: 33 * MiB },
      },
    ]);
    expect((await check('small.vhd', 'azure')).findings).toMatchObject([
      { rule: 'azure/least-size', fix: { kind: 'resize', bytes: 20 * MiB } },
    ]);
  });

  it('Azure: a footer that says another size than the geometry', async () => {
    create('two-sizes.vhd', 'vpc', '32M', 'subformat=fixed');
    const bytes = fs.readFileSync(at('two-sizes.vhd'));
    const footer = bytes.subarray(bytes.length - 512);
    footer.writeBigUInt64BE(footer.readBigUInt64BE(48) + 512n, 48);
    footer.writeUInt32BE(0, 64);
    footer.writeUInt32BE(~footer.reduce((sum, byte) => sum + byte, 0) >>> 0, 64);
    fs.writeFileSync(at('two-sizes.vhd'), Buffer.concat([bytes.subarray(0, -512), Buffer.alloc(512), footer]));
    expect(rules(await check('two-sizes.vhd', 'azure'))).toContain('azure/exact-size');
  });

  it('ESXi: neither sparse nor split; other adapters than IDE', async () => {
    for (const subformat of ['monolithicSparse', 'twoGbMaxExtentSparse', 'streamOptimized']) {
      create(`${subformat}.vmdk`, 'vmdk', '32M', `subformat=${subformat},adapter_type=lsilogic`);
      expect(rules(await check(`${subformat}.vmdk`, 'esxi'))).toEqual(['esxi/format']);
    }
    create('flat.vmdk', 'vmdk', '32M', 'subformat=monolithicFlat');
    expect(await check('flat.vmdk', 'esxi')).toMatchObject({
      outcome: 'warns',
      findings: [{ rule: 'esxi/native' }, { rule: 'esxi/adapter', found: 'ide' }],
    });
    expect((await check('monolithicSparse.vmdk', 'workstation')).outcome).toBe('fits');
    expect(rules(await check('streamOptimized.vmdk', 'workstation'))).toEqual(['workstation/format']);
    expect((await check('streamOptimized.vmdk', 'aws')).outcome).toBe('fits');
    expect(rules(await check('monolithicSparse.vmdk', 'aws'))).toEqual(['aws/format']);
    expect(rules(await check('flat.vmdk', 'openstack'))).toEqual(['openstack/vmdk-kind']);
  });

  it('a name that is taken is not proposed', async () => {
    create('named.qcow2', 'qcow2', '32M');
    expect((await check('named.qcow2', 'azure')).plan.target).toBe(at('named.vhd'));
    for (const name of ['named.vhd', 'named-azure.vhd']) fs.writeFileSync(at(name), '');
    expect((await check('named.qcow2', 'azure')).plan.target).toBe(at('named-azure-2.vhd'));
    expect((await check('named.qcow2', 'openstack')).plan.target).toBe(at('named-openstack.qcow2'));
  });

  it('OpenStack: nothing beside the file', async () => {
    expect((await check('base.qcow2', 'openstack')).outcome).toBe('fits');
    expect((await check('top.qcow2', 'openstack')).findings).toMatchObject([
      { rule: 'openstack/no-backing', found: 'base.qcow2', fix: { kind: 'convert', profile: 'openstack' } },
    ]);
    expect(rules(await check('outside.qcow2', 'openstack'))).toEqual(['openstack/no-data-file']);
  });

  it('VirtualBox, KVM, Proxmox, Hyper-V, Google: by format, size and name', async () => {
    create('disk.vdi', 'vdi', '32M');
    create('disk.raw', 'raw', '1G');
    expect((await check('disk.vdi', 'virtualbox')).outcome).toBe('fits');
    expect(rules(await check('base.qcow2', 'virtualbox'))).toEqual(['virtualbox/format']);
    expect((await check('disk.vdi', 'kvm')).outcome).toBe('warns');
    expect((await check('disk.vdi', 'proxmox')).outcome).toBe('refuses');
    expect((await check('disk.vdi', 'fusioncompute')).outcome).toBe('refuses');
    expect((await check('disk.vdi', 'hyperv-gen2')).outcome).toBe('refuses');
    expect((await check('disk.raw', 'gcp')).outcome).toBe('fits');
    expect(rules(await check('odd.raw', 'gcp'))).toEqual(['gcp/whole-gib', 'gcp/name', 'gcp/partitions']);
  });

  it('an overlay whose base is gone is still judged by what it says itself', async () => {
    mustRun('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'gone.qcow2', '-F', 'qcow2', '-u', 'lost.qcow2', '32M'], {
      cwd,
    });
    const { facts, verdicts } = await checkImage(at('lost.qcow2'), {}, profiles, silentJob);
    expect(facts.guest).toBeNull();
    expect(facts.guestProblem).toMatch(/^Could not open backing file/);
    expect(verdicts.find(({ profile }) => profile === 'wsl')?.notChecked).toEqual(['wsl/ext4']);
  });

  it('firmware: partition tables of sgdisk', async () => {
    create('uefi.raw', 'raw', '32M');
    mustRun('sgdisk', ['-n', '1:2048:+8M', '-t', '1:ef00', '-n', '2:0:0', at('uefi.raw')]);
    mustRun('qemu-img', ['convert', '-f', 'raw', '-O', 'vhdx', 'uefi.raw', 'uefi.vhdx'], { cwd });
    expect((await check('uefi.vhdx', 'hyperv-gen2')).outcome).toBe('fits');
    expect(rules(await check('uefi.vhdx', 'hyperv-gen1'))).toEqual(['hyperv-gen1/firmware']);
    expect(rules(await check('uefi.raw', 'gcp'))).toEqual(['gcp/whole-gib', 'gcp/name']);
  });

  it('WSL: ext4 over the whole disk', async () => {
    create('plain.raw', 'raw', '32M');
    mustRun('mke2fs', ['-q', '-t', 'ext4', '-F', at('plain.raw')]);
    const result = await convertFor(profileNamed('wsl'), convertParams('plain.raw', 'wsl.vhdx'), silentJob);
    expect(result.verdict?.outcome).toBe('fits');
    mustRun('qemu-img', ['compare', '-f', 'raw', '-F', 'vhdx', 'plain.raw', 'wsl.vhdx'], { cwd });
    await expect(convertFor(profileNamed('wsl'), convertParams('odd.raw', 'no.vhdx'), silentJob)).rejects.toMatchObject(
      { code: 'profile/cannot-fit' },
    );
    expect(fs.existsSync(at('no.vhdx'))).toBe(false);
  });

  it.each(profiles.filter(({ id, target }) => id !== 'wsl' && target.archivedAs === null).map((one) => [one.id, one]))(
    'a convert for %s makes what qemu-img calls the same disk, rounded up, and the platform takes',
    async (id, profile) => {
      const target = `${id}.${profile.target.extension}`;
      const { verdict: said, verified, size } = await convertFor(profile, convertParams('odd.raw', target), silentJob);
      expect(said?.findings.filter(({ severity }) => severity === 'refuses')).toEqual([]);
      expect(verified).toBe(true);
      expect(size).toBe(sizeFor(profile, 20 * MiB + 512));
      const { format } = profile.target;
      expect(convertInfo(target, format)['virtual-size']).toBe(size);
      // Larger by zeroes only: qemu-img compares with what is missing as zero.
      mustRun('qemu-img', ['compare', '-f', 'raw', '-F', format, 'odd.raw', target], { cwd });
    },
  );

  it('for Azure: a whole number of MiB and one footer, whose size is that of the disk', async () => {
    await convertFor(profileNamed('azure'), convertParams('odd.raw', 'cloud.vhd'), silentJob);
    const bytes = fs.readFileSync(at('cloud.vhd'));
    expect(bytes.length).toBe(21 * MiB + 512);
    const footer = bytes.subarray(-512);
    expect(footer.toString('latin1', 0, 8)).toBe('conectix');
    expect(footer.readBigUInt64BE(48)).toBe(BigInt(21 * MiB));
    expect(footer.readUInt32BE(60)).toBe(2);
    expect(mustRun('vhdiinfo', [at('cloud.vhd')])).toMatch(
      /Disk type\s+: Fixed\n\s+Media size\s+: 21 MiB \(22020096 bytes\)/,
    );
  });

  it('for ESXi: a descriptor of its own kind over a flat file', async () => {
    await convertFor(profileNamed('esxi'), convertParams('odd.raw', 'native.vmdk'), silentJob);
    const text = fs.readFileSync(at('native.vmdk'), 'latin1');
    expect(text).toMatch(/^createType="vmfs"$/m);
    expect(text).toMatch(/^RW 40961 VMFS "native-flat\.vmdk"$/m);
    expect(text).toMatch(/^ddb\.adapterType = "lsilogic"$/m);
    expect(fs.readFileSync(at('native-flat.vmdk')).equals(fs.readFileSync(at('odd.raw')))).toBe(true);
    expect((await check('native.vmdk', 'esxi')).outcome).toBe('fits');
  });

  it('for Google: disk.raw in an archive that GNU tar unpacks, of whole GiB, in one pass', async () => {
    const google = profileNamed('gcp');
    const result = await convertFor(google, convertParams('odd.raw', 'disk.tar.gz'), silentJob);
    expect(result).toMatchObject({ size: GiB, verified: true, verdict: null });
    expect(fs.statSync(at('disk.tar.gz')).size).toBeLessThan(2 * MiB);
    const list = runProgram('tar', ['-tvzf', at('disk.tar.gz')]);
    expect(list).toMatchObject({ status: 0, stderr: '' });
    expect(list.stdout).toMatch(/^-rw-r--r-- 0\/0\s+1073741824 .* disk\.raw\n$/);
    fs.mkdirSync(at('unpacked'));
    expect(runProgram('tar', ['-xSzf', at('disk.tar.gz'), '-C', at('unpacked')]).status).toBe(0);
    expect(fs.statSync(at('unpacked/disk.raw')).size).toBe(GiB);
    mustRun('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', 'odd.raw', 'unpacked/disk.raw'], { cwd });
    expect((await check('unpacked/disk.raw', 'gcp')).outcome).toBe('warns');
    // The magic of GNU tar's old form, which `tar --format=oldgnu` writes.
    const unzipped = zlib.gunzipSync(fs.readFileSync(at('disk.tar.gz')).subarray(0, 4096), {
      finishFlush: zlib.constants.Z_SYNC_FLUSH,
    });
    expect(unzipped.toString('latin1', 257, 265)).toBe('ustar  \0');
  });

  it('refuses options whose result the platform would refuse, and makes nothing', async () => {
    const params = { ...convertParams('odd.raw', 'never.vhd'), options: { subformat: 'dynamic' } };
    await expect(convertFor(profileNamed('azure'), params, silentJob)).rejects.toMatchObject({
      code: 'profile/option',
    });
    const inexact = { ...params, options: { force_size: false } };
    await expect(convertFor(profileNamed('azure'), inexact, silentJob)).rejects.toMatchObject({
      code: 'profile/option',
    });
    const salvaging = { ...convertParams('odd.raw', 'never.tar.gz'), salvage: true };
    await expect(convertFor(profileNamed('gcp'), salvaging, silentJob)).rejects.toMatchObject({
      code: 'convert/archive',
    });
    expect(fs.readdirSync(cwd).filter((name) => name.includes('never'))).toEqual([]);
  });

  it('takes a format that was asked for, where the platform takes it', async () => {
    const params = { ...convertParams('odd.raw', 'for-aws.vhd'), format: 'vpc', options: { force_size: true } };
    const { verdict: said } = await convertFor(profileNamed('aws'), params, silentJob);
    expect(said?.findings.filter(({ severity }) => severity === 'refuses')).toEqual([]);
    expect(convertInfo('for-aws.vhd', 'vpc')['virtual-size']).toBe(20 * MiB + 512);
  });
});
