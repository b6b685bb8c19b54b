// The counters of the check against a plain map, through all their widths.
import { expect, it } from 'vitest';
import { ClusterCounts, pageClusters } from '../../../../core/formats/qcow2/cluster-counts.ts';

it('counts as a map does, whatever the order', () => {
  let seed = 7;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fff_ffff;
    return Math.floor((seed / 0x8000_0000) * below);
  };
  const size = 5 * pageClusters + 100;
  const counts = new ClusterCounts(size, 'test');
  const plain = new Map<number, number>();
  const add = (cluster: number, by: number): void => {
    plain.set(cluster, (plain.get(cluster) ?? 0) + by);
  };
  for (let cluster = 0; cluster < pageClusters; cluster++) {
    expect(counts.mark(cluster)).toBe(true);
    add(cluster, 1);
  }
  expect(counts.uniform(0)).toBe(1);
  expect(counts.mark(3)).toBe(false);
  const run = counts.markRun(2 * pageClusters - 100, 300);
  expect(run).toBe(300);
  for (let at = 0; at < run; at++) add(2 * pageClusters - 100 + at, 1);
  expect(counts.markRun(2 * pageClusters - 110, 300)).toBeLessThanOrEqual(10);
  for (const [cluster, count] of counts.counted()) {
    if (!plain.has(cluster)) add(cluster, count);
  }
  for (let step = 0; step < 60_000; step++) {
    const cluster = step % 3 === 0 ? random(40) + pageClusters * random(5) : random(size);
    const by = step % 50 === 0 ? random(300) + 1 : 1;
    counts.add(cluster, by);
    add(cluster, by);
  }
  for (let cluster = 0; cluster < size; cluster++) {
    if (counts.get(cluster) !== (plain.get(cluster) ?? 0))
      expect(counts.get(cluster), `${cluster}`).toBe(plain.get(cluster));
  }
  expect([...counts.counted()].length).toBe(plain.size);
});

it('ends at the highest count and grows with what is counted', () => {
  const counts = new ClusterCounts(10, 'test');
  counts.add(4, 0xffff_fff0);
  counts.add(4, 0xff);
  expect(counts.get(4)).toBe(0xffff_ffff);
  counts.add(10);
  expect(counts.size).toBe(11);
});

it('gives pages of one value back before it gives up', () => {
  const pages = 64;
  const counts = new ClusterCounts(pages * pageClusters, 'image.qcow2', 4 * pageClusters);
  for (let cluster = 0; cluster < pages * pageClusters; cluster++) counts.add(cluster, 2);
  expect(counts.get(5 * pageClusters)).toBe(2);
  const small = new ClusterCounts(pages * pageClusters, 'image.qcow2', 4 * pageClusters);
  expect(() => {
    for (let page = 0; page < pages; page++) small.add(page * pageClusters, 20);
  }).toThrow(/more than 65536 bytes of memory/);
});
