// Turns the text of a terminal session (stdin) into an SVG picture (stdout): `npm start | node scripts/terminal-picture.ts > docs/images/demo.svg`.
import fs from 'node:fs';

const characterWidth = 8.4;
const lineHeight = 19;
const margin = 20;
const titleHeight = 34;

const lines = fs
  .readFileSync(0, 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => line.slice(line.lastIndexOf('\r') + 1));

const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
const width = Math.ceil(Math.max(...lines.map((line) => line.length)) * characterWidth) + 2 * margin;
const height = titleHeight + lines.length * lineHeight + margin;

const rows = lines.map((line, index) => {
  const y = titleHeight + (index + 1) * lineHeight - 4;
  const colour = line.startsWith('$ ') ? '#8be9a8' : '#d8dee9';
  return `<text x="${margin}" y="${y}" fill="${colour}" xml:space="preserve">${escape(line)}</text>`;
});
const dots = ['#ff5f57', '#febc2e', '#28c840'].map(
  (colour, index) => `<circle cx="${margin + index * 20}" cy="18" r="6" fill="${colour}"/>`,
);

process.stdout
  .write(`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"
     font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14">
<rect width="${width}" height="${height}" rx="8" fill="#1f2430"/>
${dots.join('\n')}
${rows.join('\n')}
</svg>
`);
