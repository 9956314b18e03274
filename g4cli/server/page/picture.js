/** Pictures: how many tokens one has, and how it is made small enough for a budget. */

const SENT_AS_IT_IS = /^image\/(png|jpeg|gif|bmp)$/;
const QUALITY = 0.92; // of JPEG: the browsers' default

/**
 * Returns the pixels of a picture, whatever format the browser reads.
 *
 * @param {Blob} blob
 */
export async function readPicture(blob) {
  try {
    return await createImageBitmap(blob);
  } catch {
    throw new Error("The browser cannot read this picture.");
  }
}

/**
 * Returns the columns and rows of tokens of a picture: it is made smaller until they are at most
 * `budget` together.
 *
 * Source: calc_size_preserved_ratio, tools/mtmd/mtmd-image.cpp, llama.cpp@0c1e57098.
 *
 * @param {{width: number, height: number}} size
 * @param {number} pixels the side of what becomes one token
 * @param {number} budget
 */
export function findGrid({ width, height }, pixels, budget) {
  const across = width / pixels;
  const down = height / pixels;
  const columns = Math.max(1, Math.round(across));
  const rows = Math.max(1, Math.round(down));
  if (columns * rows <= budget) return { columns, rows, isSmaller: false };
  const scale = Math.sqrt(budget / (across * down));
  return { columns: Math.max(1, Math.floor(across * scale)), rows: Math.max(1, Math.floor(down * scale)),
    isSmaller: true };
}

/**
 * Returns the tokens of a picture.
 *
 * @param {{width: number, height: number}} size
 * @param {number} pixels
 * @param {number} budget
 */
export function countTokens(size, pixels, budget) {
  const { columns, rows } = findGrid(size, pixels, budget);
  return columns * rows;
}

/**
 * Returns the file to send: the one that was given, or a smaller picture, or one in a format that
 * the server reads.
 *
 * @param {ImageBitmap} bitmap
 * @param {Blob} blob
 * @param {number} pixels
 * @param {number} budget
 * @returns {Promise<Blob>}
 */
export async function shrinkPicture(bitmap, blob, pixels, budget) {
  const { columns, rows, isSmaller } = findGrid(bitmap, pixels, budget);
  if (!isSmaller && SENT_AS_IT_IS.test(blob.type)) return blob;
  const width = isSmaller ? columns * pixels : bitmap.width;
  const height = isSmaller ? rows * pixels : bitmap.height;
  const canvas = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  const type = blob.type === "image/jpeg" ? "image/jpeg" : "image/png";
  return canvas.convertToBlob({ type, quality: QUALITY });
}
