// Giving space back in a raw image: what reads as zeroes becomes holes of the file.
import { compactedByHoles, type CompactDriver } from '../compact-driver.ts';

export const compactRaw: CompactDriver = { plan: () => compactedByHoles({ options: {} }) };
