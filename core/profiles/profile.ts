// What a target profile is: the demands of one platform, each with its source, and what a convert for it makes.
import type { OptionValue } from '../formats/driver.ts';

/** A format that a platform takes, and which kinds of it; absent: every kind. */
export interface TakenFormat {
  readonly format: string;
  /** As `subformat` of `DiskFacts` spells them. */
  readonly subformats?: readonly string[];
}

/** What a rule looks at. Sizes in bytes; those named `size-…` are of the guest's disk. */
export type Demand =
  | { readonly kind: 'format'; readonly taken: readonly TakenFormat[] }
  | { readonly kind: 'size-multiple'; readonly of: number }
  | { readonly kind: 'size-least'; readonly bytes: number }
  | { readonly kind: 'size-most'; readonly bytes: number }
  /** The limit of the file, not of the disk in it. */
  | { readonly kind: 'file-most'; readonly bytes: number }
  /** The size field and the size that the platform reads say the same (VHD). */
  | { readonly kind: 'exact-size' }
  | { readonly kind: 'no-backing' }
  | { readonly kind: 'no-data-file' }
  /** No volume in the guest is encrypted. */
  | { readonly kind: 'no-guest-encryption' }
  | { readonly kind: 'adapter'; readonly allowed: readonly string[] }
  /** The host's file is neither sparse nor compressed; known on Windows only. */
  | { readonly kind: 'not-sparse' }
  | { readonly kind: 'firmware'; readonly firmware: 'bios' | 'uefi' }
  | { readonly kind: 'partitioned' }
  /** An MBR says no more than 2 TiB. */
  | { readonly kind: 'table-reaches' }
  /** One file system over the whole disk. */
  | { readonly kind: 'file-system'; readonly fileSystem: string }
  | { readonly kind: 'file-name'; readonly name: string };

export type DemandKind = Demand['kind'];

/** Where a demand is written down. */
export interface RuleSource {
  readonly title: string;
  readonly url: string;
}

export interface Rule {
  /** `profile/subject`. */
  readonly id: string;
  /** `refuses`: the platform will not take the image. `warns`: it will, and something will not be as one expects. */
  readonly severity: 'refuses' | 'warns';
  readonly demand: Demand;
  /** It holds for images of this format only. */
  readonly onlyFor?: string;
  readonly source: RuleSource;
}

/** What a convert for a platform makes. */
export interface ProfileTarget {
  readonly format: string;
  readonly options: Readonly<Record<string, OptionValue>>;
  /** The image is put into a gzipped tar under this name. */
  readonly archivedAs: string | null;
  /** The usual ending of the target's name, without the dot. */
  readonly extension: string;
}

export interface Profile {
  readonly id: string;
  /** Name for people; names of products are the same in every language. */
  readonly label: string;
  readonly target: ProfileTarget;
  readonly rules: readonly Rule[];
}
