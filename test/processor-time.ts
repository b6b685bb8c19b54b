// What a step costs: time of the processor, not of the clock, for the machine does other work meanwhile.

/** Milliseconds of processor time that this process, with its threads, has taken since it began. */
export function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
