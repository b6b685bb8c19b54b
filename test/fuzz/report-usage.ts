// Loaded into a program under test: writes its peak memory (bytes) and processor time (microseconds) to the file USAGE_FILE at its end.
import fs from 'node:fs';

process.on('exit', () => {
  const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage();
  const file = process.env.USAGE_FILE;
  if (file !== undefined)
    fs.writeFileSync(file, JSON.stringify({ peak: maxRSS * 1024, cpu: userCPUTime + systemCPUTime }));
});
