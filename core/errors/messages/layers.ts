// Codes and sentences of rebase, commit and bench, and of writing into what is there.
import type { Sentence } from '../sentence.ts';

export const layersMessages = {
  'rebase/format-name': (d) => `Invalid format name: '${d.name}'`,
  'rebase/new-base': (d) => `Could not open new backing file '${d.name}': ${d.reason}`,
  'rebase/format': (d) => `Could not change the backing file to '${d.name}': backing format must be specified`,
  'rebase/unsupported': (d) => `Could not change the backing file to '${d.name}': Operation not supported`,
  'rebase/no-room': (d) => `Could not change the backing file to '${d.name}': No space left in the file header`,
  'rebase/link': (d) => `Could not change the backing file to '${d.name}': ${d.reason}`,
  'rebase/map': (d) => `error while reading image metadata: ${d.reason}`,
  'rebase/read-old': 'error while reading from old backing file',
  'rebase/read-new': 'error while reading from new backing file',
  'rebase/write': (d) => `Error while writing to COW image: ${d.reason}`,
  'bench/request': (d) => `Failed request: ${d.reason}`,
  'bench/memory': (d) => `The requests under way would need ${d.found} bytes of memory, ${d.allowed} are allowed`,
  'bench/flush': (d) => `Failed flush request: ${d.reason}`,
  'commit/no-backing': 'Image does not have a backing file',
  'commit/not-in-chain': (d) => `Did not find '${d.base}' in the backing chain of '${d.name}'`,
  'commit/described':
    'The layer below is given by a description, and images of its format are known by their content: commit writes only into such a layer ' +
    'if the image names it',
  'commit/open': (d) => `Could not open '${d.name}': ${d.reason}`,
  'commit/grow': (d) => `Could not resize backing file '${d.name}': ${d.reason}`,
  'commit/link': (d) => `Could not renew the link to the backing file of '${d.name}': ${d.reason}`,
  'commit/would-change-format': 'Block job failed: Operation not permitted',
  'convert/would-change-format': 'error while writing at byte 0: Operation not permitted',
  'commit/copy': (d) => `Block job failed: ${d.reason}`,
  'commit/empty': (d) => `Failed to empty ${d.name}: ${d.reason}`,
} as const satisfies Record<string, Sentence>;
