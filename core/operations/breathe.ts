// Long synchronous work lets the event loop run now and then: signals are heard, progress goes out.

/** Milliseconds of work between two pauses. */
const stretch = 100;

/** Gives a function to await in a loop: it pauses when the last pause is long enough ago, and costs next to nothing otherwise. */
export function breather(): () => Promise<void> | undefined {
  let last = performance.now();
  return () => {
    if (performance.now() - last < stretch) return undefined;
    return new Promise((resolve) => {
      setImmediate(() => {
        last = performance.now();
        resolve();
      });
    });
  };
}
