// The colour that the style sheet gives to a token, as the theme of the page has it.
import type { Page } from 'playwright-core';

/** The colour of `--name` as six hex digits, as pixels of a canvas are compared with it. */
export function tokenColour(page: Page, name: string): Promise<string> {
  return page.evaluate<string>(`((name) => {
    const probe = document.body.appendChild(document.createElement('i'));
    probe.style.color = 'var(' + name + ')';
    const numbers = getComputedStyle(probe).color.match(/\\d+/g).slice(0, 3);
    probe.remove();
    return numbers.map((value) => Number(value).toString(16).padStart(2, '0')).join('');
  })(${JSON.stringify(name)})`);
}
