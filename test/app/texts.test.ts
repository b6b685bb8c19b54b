// The texts of the window: both languages complete, nothing unused, no text outside of the table; and the built window is small.
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { en } from '../../renderer/text/messages/en.ts';
import { zhCN } from '../../renderer/text/messages/zh-cn.ts';
import { itWith } from '../peers.ts';
import { missingWindow } from './window.ts';

const project = path.resolve(import.meta.dirname, '../..');
const renderer = path.join(project, 'renderer');

const sources = fs
  .readdirSync(renderer, { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.(svelte|ts)$/.test(name) && !name.includes('messages'))
  .map((name) => ({ name, text: fs.readFileSync(path.join(renderer, name), 'utf8') }));

/** Keys that are made of what the engine says. */
const made = [
  'work.',
  'phase.',
  'state.',
  'chain.health.',
  'chain.kind.',
  'edge.',
  'mark.',
  'severity.',
  'option.',
  'problem/',
  'conflict.',
  'verdict.',
  'demand.',
  'format.',
  'problem-text.',
  'column.',
  'chain-refused.',
  'filter.',
  'gate.',
  'palette.',
  'role.',
  'storage.',
  'partition.',
  'contents.',
  'hex.',
  'samples.',
  'steps.',
];
const holes = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? '').sort();

describe('the texts of the window', () => {
  it('are the same in both languages, with the same holes', () => {
    expect(Object.keys(zhCN).sort()).toEqual(Object.keys(en).sort());
    for (const [key, text] of Object.entries(en)) expect(holes(zhCN[key as keyof typeof en]), key).toEqual(holes(text));
  });

  it('are all used', () => {
    const all = sources.map(({ text }) => text).join('\n');
    const unused = Object.keys(en).filter(
      (key) => !all.includes(`'${key}'`) && !made.some((prefix) => key.startsWith(prefix)),
    );
    expect(unused).toEqual([]);
  });

  it('have holes where values are given, and are given values where they have holes', () => {
    const calls = sources.flatMap(({ name, text }) =>
      [...text.matchAll(/\bt\(\s*'([^']+)'\s*(,\s*[^\s)]|,?\s*\))/g)].map(([, key = '', after]) => ({
        name,
        key,
        given: /[^,\s)]/.test(after ?? ''),
      })),
    );
    // It says itself what stands in braces.
    const literal = ['batch.rule'];
    const wrong = calls.filter(
      ({ key, given }) =>
        Object.hasOwn(en, key) && !literal.includes(key) && holes(en[key as keyof typeof en]).length > 0 !== given,
    );
    expect(calls.length).toBeGreaterThan(500);
    expect(wrong).toEqual([]);
  });

  it('stand in no component', () => {
    const found = sources
      .filter(({ name }) => name.endsWith('.svelte') && name !== 'App.svelte' /* the name of the program */)
      .flatMap(({ name, text }) => {
        const markup = text
          .replace(/<script[\s\S]*?<\/script>|<style[\s\S]*?<\/style>|<!--[\s\S]*?-->/g, '')
          .replace(/\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}/g, '');
        const between = [...markup.matchAll(/>([^<>]*)</g)].map(([, words]) => (words ?? '').trim());
        return between.filter((words) => /\p{L}{2}/u.test(words)).map((words) => `${name}: ${words}`);
      });
    expect(found).toEqual([]);
  });

  itWith({ unless: missingWindow() }, 'and all that the window is made of take less than 600 kB gzipped', () => {
    const built = path.join(project, 'dist', 'renderer');
    const sizes = fs
      .readdirSync(built, { recursive: true, encoding: 'utf8' })
      .map((name) => path.join(built, name))
      .filter((name) => fs.statSync(name).isFile())
      .map((name) => zlib.gzipSync(fs.readFileSync(name)).length);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(600_000);
  });
});
