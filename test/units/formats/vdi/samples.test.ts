// Real VDIs made by VirtualBox and qemu: what they hold and what they are.
import { expect, it } from 'vitest';
import { vdi } from '../../../../core/formats/vdi/driver.ts';
import { describeWith } from '../../../peers.ts';
import { scratchFolder } from '../../../scratch.ts';
import { judgeSample, unpackSample } from '../foreign-sample.ts';
import { withImage } from '../new-image.ts';

const cases = ['vdi-qemu-2G-a', 'vdi-qemu-pattern', 'vdi-vbox-4M-00', 'vdi-vbox-4M-10', 'vdi-vbox-empty-4M'];

describeWith({ shared: true, peers: ['bzip2'] }, 'VDIs of other makers', () => {
  const folder = scratchFolder('vdi-samples');

  for (const id of cases) {
    it(`${id} is a VDI of the right size and content`, () => judgeSample(vdi, id, folder));
  }

  it('tell what VirtualBox put into the header', () => {
    const { main } = unpackSample('vdi-vbox-4M-00', folder);
    const further = withImage(main, {}, (node) => vdi.facts(node).further);
    expect(further).toMatchObject({
      subformat: 'dynamic',
      version: '1.1',
      'header-size': 400,
      text: '<<< Oracle VM VirtualBox Disk Image >>>',
      comment: 'Converted image from hdd.img',
      uuid: 'f1bcd53f-9b77-4e37-b363-4e0397bcc220',
      'modify-uuid': 'f20a3af8-e7b7-4baf-8a20-833e452416ee',
    });
  });
});
