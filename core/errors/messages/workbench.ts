// Codes and sentences of the program behind the window: jobs, sessions, what may be asked.
import type { Sentence } from '../sentence.ts';

export const workbenchMessages = {
  'serve/listen': (d) => `Cannot listen on ${d.address}:${d.port}: ${d.reason}`,
  'access/outside': (d) => `'${d.name}' lies outside of the folders that were opened up`,
  'access/read-only': 'Nothing may be changed here: it was started with --read-only',
  'gate/decisions': (d) => `More than ${d.allowed} decisions of one kind are not kept; allow a folder instead`,
  'session/unknown': (d) => `There is no open image '${d.id}'`,
  'session/no-file': (d) => `The image has no file '${d.role}'`,
  'session/no-layer': (d) => `The map of '${d.view}' has no layer '${d.layer}'`,
  'session/died': (d) => `The image was closed by a fault: ${d.reason}`,
  'session/too-many': (d) => `${d.allowed} images are open; close one first`,
  'job/unknown': (d) => `There is no job '${d.id}'`,
  'job/makes-nothing': 'The job writes no new image, or has not begun to',
  'job/over': 'The job is over',
  'job/running': 'The job is not over yet',
  'job/no-work': (d) => `There is no work '${d.work}' for a job`,
  'job/params': (d) =>
    `The parameters of '${d.work}' are not right${d.field === '' ? '' : ` at '${d.field}'`}: ${d.reason}`,
  'job/bug': (d) => `The job '${d.work}' failed by a mistake in this program: ${d.reason}`,
  'job/memory': (d) => `The job '${d.work}' needed more memory than a job may have`,
  'job/died': (d) => `The job '${d.work}' ended without a result (exit code ${d.exit})`,
} as const satisfies Record<string, Sentence>;
