// Codes and sentences of the catalogue: its file, datastores, images and who stands on whom.
import type { Sentence } from '../sentence.ts';

export const catalogueMessages = {
  'catalogue/damaged': (d) => `The catalogue '${d.name}' is damaged: ${d.reason}`,
  'catalogue/newer': (d) =>
    `The catalogue '${d.name}' was written by a newer version of this program (schema ${d.found}; this one knows ${d.known})`,
  'catalogue/busy': (d) => `The catalogue '${d.name}' is in use by another program: ${d.reason}`,
  'catalogue/storage': (d) => `The catalogue '${d.name}' cannot be read or written: ${d.reason}`,
  'catalogue/meanwhile': (d) =>
    `Another program changed the catalogue '${d.name}' at the same moment (${d.reason}); nothing was written. Try again`,
  'catalogue/refused': (d) => `The catalogue '${d.name}' did not accept a statement: ${d.reason} (${d.code})`,
  'datastore/unknown': (d) => `There is no datastore '${d.name}'`,
  'datastore/name-taken': (d) => `There is a datastore '${d.name}' already`,
  'datastore/path-taken': (d) => `'${d.name}' is the datastore '${d.other}' already`,
  'datastore/nested': (d) => `'${d.name}' overlaps with the datastore '${d.other}' at '${d.path}'`,
  'datastore/not-a-folder': (d) => `'${d.name}' is not a folder`,
  'datastore/unreachable': (d) => `The folder '${d.name}' of datastore '${d.datastore}' cannot be reached: ${d.reason}`,
  'image/unknown': (d) => `There is no image '${d.name}' in the catalogue`,
  'image/ambiguous': (d) => `'${d.name}' could be any of ${d.count} images: ${d.named}`,
  'image/name-encoding': 'The name is not valid UTF-8; rename the file to use it',
  'image/not-as-named': (d) =>
    d.size === 0 ? 'The file is empty' : `The name says ${d.format}, and nothing in the file looks like that`,
  'image/dangling-link': 'The symbolic link leads nowhere',
  'image/none': (d) => `'${d.name}' does not look like a disk image`,
  'image/not-loose': (d) => `'${d.name}' lies in a datastore; it is known as long as its file is there`,
  'image/target-exists': (d) => `'${d.name}' exists already`,
  'image/has-dependents': (d) =>
    `${d.count} other image(s) read through '${d.name}' (${d.named}). Use --force to do it all the same`,
  'image/outside-datastore': (d) => `'${d.name}' lies outside of the datastore at '${d.root}'`,
  'image/parts-named': (d) =>
    `'${d.name}' consists of ${d.count} files and names the others; it can move to another folder, not to another name`,
  'migrate/unknown': (d) => `There is no interrupted migration '${d.id}'`,
  'migrate/not-whole': (d) => `'${d.name}' cannot be opened or lacks its parent; it cannot be migrated`,
  'migrate/no-backing': (d) => `'${d.name}' stands on another image, and ${d.format} has no images that do`,
  'migrate/encrypted': (d) =>
    `'${d.name}' is encrypted, and a copy in another format or made of several files would not be: keep its format, or convert it`,
  'migrate/child-format': (d) => `'${d.name}' stands on this image and cannot stand on one of format ${d.format}`,
  'migrate/differs': (d) => `The copy '${d.copy}' does not hold what '${d.name}' holds; it was removed`,
  'lineage/several': (d) => `${d.count} images could be the parent of '${d.name}': ${d.named}. Say which`,
  'lineage/not-the-parent': (d) =>
    `Neither identity nor content speak for '${d.parent}' as the parent of '${d.name}'. Use --force if you know better`,
  'lineage/no-parent': (d) => `'${d.name}' has no parent`,
  'merge/parent-unknown': (d) => `'${d.parent}', which '${d.name}' stands on, is in no datastore`,
  'merge/snapshots': (d) =>
    `'${d.name}' has ${d.count} internal snapshot(s), which would be lost. Use --force to merge it all the same`,
  'lineage/no-candidate': (d) => `No image in the catalogue is the parent that '${d.name}' looks for`,
} as const satisfies Record<string, Sentence>;
