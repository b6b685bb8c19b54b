// Which addresses may be handed to the system's browser: sites that the program's own texts refer to, over HTTPS.
import { shell } from 'electron';

/** The sources that the program cites (docs/profiles.md). A name stands for itself, not for what lies below it. */
const hosts: ReadonlySet<string> = new Set([
  'bugs.launchpad.net',
  'cloud.google.com',
  'developer.broadcom.com',
  'docs.aws.amazon.com',
  'docs.openstack.org',
  'docs.oracle.com',
  'forum.huawei.com',
  'github.com',
  'kb.vmware.com',
  'learn.microsoft.com',
  'pve.proxmox.com',
  'security.openstack.org',
  'support.huaweicloud.com',
  'www.qemu.org',
]);

/** True for an address that the browser may be asked to show. */
export function mayOpen(address: string): boolean {
  if (!URL.canParse(address)) return false;
  const { protocol, hostname, port, username, password } = new URL(address);
  return protocol === 'https:' && hosts.has(hostname) && port === '' && username === '' && password === '';
}

/** Opens an allowed address outside; any other one is left alone. */
export function openOutside(address: string): void {
  if (mayOpen(address)) void shell.openExternal(address).catch(() => {}); // no browser: nothing to be done here
}
