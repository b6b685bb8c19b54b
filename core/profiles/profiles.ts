// All profiles, in the order in which they are listed.
import { ImageError } from '../errors/image-error.ts';
import { aws, google } from './platforms/clouds.ts';
import { esxi, virtualBox, workstation } from './platforms/desktop.ts';
import { fusionCompute, huaweiCloud, kvm, openstack, proxmox } from './platforms/kvm.ts';
import { azure, hypervGeneration1, hypervGeneration2, wsl } from './platforms/microsoft.ts';
import type { Profile } from './profile.ts';

export const profiles: readonly Profile[] = [
  azure,
  aws,
  google,
  hypervGeneration1,
  hypervGeneration2,
  esxi,
  workstation,
  virtualBox,
  kvm,
  proxmox,
  openstack,
  fusionCompute,
  huaweiCloud,
  wsl,
];

/** The profile called `id`. Throws `profile/unknown`. */
export function profileNamed(id: string): Profile {
  const found = profiles.find((profile) => profile.id === id);
  if (found === undefined) {
    throw new ImageError('profile/unknown', { name: id, known: profiles.map((profile) => profile.id).join(', ') });
  }
  return found;
}
