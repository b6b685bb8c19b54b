// What axe finds on a page that keeps somebody from using it.
import { AxeBuilder } from '@axe-core/playwright';
import type { Page } from 'playwright-core';

export interface Where {
  /** A selector: only what is in there. */
  readonly within?: string;
  /** Only these rules; none: all. */
  readonly rules?: readonly string[];
  /** The light ones too. */
  readonly all?: boolean;
}

/** The serious and the critical ones, each with its rule and the elements that it is about. */
export async function graveFaults(page: Page, { within, rules = [], all = false }: Where = {}): Promise<string[]> {
  // There are no frames, for which it would open a page of its own each time.
  const axe = new AxeBuilder({ page }).setLegacyMode();
  if (within !== undefined) axe.include(within);
  if (rules.length > 0) axe.withRules([...rules]);
  const { violations } = await axe.analyze();
  return violations
    .filter(({ impact }) => all || impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}
