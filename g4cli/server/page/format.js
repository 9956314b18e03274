/** Numbers, sizes and times as text. */

/**
 * Returns a number with separators.
 *
 * @param {number} number
 */
export function formatCount(number) {
  return number.toLocaleString("en-US");
}

/**
 * Returns a number with what it counts: "1 token", "2,000 tokens".
 *
 * @param {number} number
 * @param {string} noun
 */
export function count(number, noun) {
  return `${formatCount(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/**
 * Returns a size in GiB or MiB, as g4 writes sizes.
 *
 * @param {number} nbytes
 */
export function formatSize(nbytes) {
  const gib = nbytes / 2 ** 30;
  if (gib >= 1) return `${gib.toFixed(gib < 100 ? 1 : 0)} GiB`;
  const mib = nbytes / 2 ** 20;
  return mib >= 1 ? `${mib.toFixed(mib < 10 ? 1 : 0)} MiB` : `${(nbytes / 1024).toFixed(0)} KiB`;
}

/**
 * Returns a time in seconds as "4.2 s" or "3:05".
 *
 * @param {number} seconds
 */
export function formatSeconds(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/**
 * Returns the heading of the list below which a conversation of this time stands.
 *
 * @param {number} time Unix seconds
 * @param {Date} [now]
 */
export function nameDay(time, now = new Date()) {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime() / 1000;
  const day = 24 * 3600;
  if (time >= midnight) return "Today";
  if (time >= midnight - day) return "Yesterday";
  if (time >= midnight - 6 * day) return "Last 7 days";
  if (time >= midnight - 29 * day) return "Last 30 days";
  return "Older";
}
