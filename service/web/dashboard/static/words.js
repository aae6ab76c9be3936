// Numbers in the words of the service: as ffengine.text.bytes_in_words and service.results.descriptions.duration write them.

const SMALL = ["bytes", "KiB", "MiB"]; // written as whole numbers
const LARGE = ["GiB", "TiB", "PiB"]; // with one decimal
const DURATIONS = [[86_400, "days"], [3_600, "h"], [60, "min"]];

// A number of bytes in the unit in which people say it.
export function bytesInWords(count) {
  let size = count;
  for (const unit of SMALL) {
    if (Math.round(size) < 1024) return `${size.toFixed(0)} ${unit === "bytes" && Math.round(size) === 1 ? "byte" : unit}`;
    size /= 1024;
  }
  for (const unit of LARGE) {
    if (Number(size.toFixed(1)) < 1024) return `${size.toFixed(1)} ${unit}`;
    size /= 1024;
  }
  return `${size.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 })} EiB`;
}

// A duration in the largest unit that fits, a part of a second with one digit.
export function duration(seconds) {
  if (seconds > 0 && seconds < 0.95) return `${Number(Math.max(seconds, 0.001).toPrecision(1))} s`;
  const [size, unit] = DURATIONS.find(([one]) => seconds >= 1.5 * one) ?? [1, "s"];
  return `${(seconds / size).toFixed(0)} ${unit}`;
}
