// SPDX-License-Identifier: GPL-2.0-or-later
// Numbers as people read them, and lines of plots: knows nothing of the page.

export const NONE = "–";

// A duration in seconds.
export function duration(seconds) {
  if (seconds === null) return NONE;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds / 60) % 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds / 3600) % 24)} h`;
}

export function rounded(number) {
  return number === null ? NONE : String(Number(number.toPrecision(3)));
}

export function largest(...series) {
  return Math.max(0, ...series.flat().map((one) => one ?? 0));
}

// The last value that there is.
export function latest(values) {
  return values.findLast((one) => one !== null) ?? null;
}

// The "d" of an SVG path in a frame; nothing is drawn where a value is missing.
export function line(values, most, width, height) {
  const step = width / (values.length - 1);
  let parts = "";
  let before = null;
  values.forEach((value, place) => {
    if (value !== null) {
      const x = (place * step).toFixed(1);
      const y = (height - 2 - (value / (most || 1)) * (height - 4)).toFixed(1);
      // One value alone is a short line.
      parts += before === null ? `M${x} ${y}h.1` : `L${x} ${y}`;
    }
    before = value;
  });
  return parts;
}
