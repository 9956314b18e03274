/** How a model fits this machine: a bar for each memory, by what needs it. */

import { make } from "./dom.js";
import { formatCount, formatSize } from "./format.js";

/**
 * @typedef {{name: string, total_bytes: number, available_bytes: number,
 *   groups: Record<string, number>}} Device
 * @typedef {{fits: boolean, reason: string, instead: string, n_ctx: number, largest_ctx: number,
 *   n_ctx_train: number, total_bytes: number, weight_bytes: number, devices: Device[]}} Fit
 */

const GROUPS = [["weights", "weights"], ["kv", "KV cache"], ["compute", "compute"], ["process", "process"]];

/**
 * Returns the bars and sentences of a model.
 *
 * @param {Fit} fit
 */
export function drawFit(fit) {
  const largest = fit.largest_ctx ? `largest context ${formatCount(fit.largest_ctx)}` : "no context fits";
  const used = fit.devices.filter((device) => sum(device.groups) > 0);
  return make("div", {}, ...used.map(drawDevice),
    make("p", { class: "fit-text" },
      make("span", { class: fit.fits ? "good" : "bad-text" }, fit.fits ? "fits" : "does not fit"),
      ` with ${formatCount(fit.n_ctx)} tokens: ${fit.reason}; ${largest}.`,
      fit.instead ? ` ${fit.instead}` : ""));
}

/** @param {Device} device */
function drawDevice(device) {
  const needed = sum(device.groups);
  const whole = Math.max(device.total_bytes, needed);
  const parts = GROUPS.filter(([group]) => device.groups[group] > 0);
  const bar = make("div", { class: "memory-bar", role: "img", "aria-label":
    `${formatSize(needed)} of ${formatSize(device.total_bytes)} needed, ${formatSize(device.available_bytes)} free` });
  for (const [group] of parts) {
    const part = make("span", { class: `part-${group}` });
    part.style.width = `${(100 * device.groups[group]) / whole}%`;
    bar.append(part);
  }
  // Where the memory that is free now ends.
  const free = make("span", { class: "free-mark" });
  free.style.left = `${(100 * Math.min(device.available_bytes, whole)) / whole}%`;
  bar.append(free);
  const name = device.name === "host" ? "" : device.name;
  return make("div", {}, bar, make("p", { class: "legend" },
    name ? make("span", {}, name) : null,
    ...parts.map(([group, label]) => make("span", { class: `key key-${group}` },
      `${label} ${formatSize(device.groups[group])}`)),
    make("span", { class: "key key-free" }, `${formatSize(device.available_bytes)} free of ${formatSize(device.total_bytes)}`)));
}

/** @param {Record<string, number>} groups */
function sum(groups) {
  return Object.values(groups).reduce((total, nbytes) => total + nbytes, 0);
}
