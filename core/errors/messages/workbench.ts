// Codes and sentences of the program behind the window: jobs, sessions, what may be asked.
import type { Sentence } from '../sentence.ts';

export const workbenchMessages = {
  'job/unknown': (d) => `There is no job '${d.id}'`,
  'job/over': 'The job is over',
  'job/running': 'The job is not over yet',
  'job/params': (d) =>
    `The parameters of '${d.work}' are not right${d.field === '' ? '' : ` at '${d.field}'`}: ${d.reason}`,
  'job/bug': (d) => `The job '${d.work}' failed by a mistake in this program: ${d.reason}`,
  'job/memory': (d) => `The job '${d.work}' needed more memory than a job may have`,
  'job/died': (d) => `The job '${d.work}' ended without a result: ${d.reason}`,
} as const satisfies Record<string, Sentence>;
