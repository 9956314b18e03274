/** A drawing of an answer: its picture in a frame that runs nothing, what was found, its source. */

import { change, readBlob } from "./api.js";
import { joinCode } from "./answer.js";
import { announce, find, make } from "./dom.js";
import { count } from "./format.js";

/**
 * @typedef {{rule: string, kind: string, line: number, message: string, repaired: boolean,
 *   repair: string}} Finding
 * @typedef {{id: string, shown: boolean, blank: boolean, flawless: boolean, repaired: boolean, text: string | null,
 *   width: number | null, height: number | null, findings: Finding[]}} Drawing
 */

const OPENS = /<svg[\s>]/i;
const CLOSES = /<\/svg\s*>/i;
const SHOWN_SIDE = 480; // pixels of the larger side, a choice
const BESIDE_WIDTH = 900; // pixels from which the source stands beside the picture, as in answer.css

/**
 * Shows the drawing of a block of code, if there is one that is complete or cannot grow any more.
 *
 * @param {HTMLElement[]} parts of the block
 * @param {boolean} isLast of the answer
 */
export async function showDrawing(parts, isLast) {
  const text = joinCode(parts);
  if (!OPENS.test(text) || !(CLOSES.test(text) || isLast)) return;
  const place = /** @type {HTMLElement} */ (parts[0].parentElement);
  const figure = make("figure", { class: "drawing" }, make("p", { class: "state" },
    make("span", { class: "dots", "aria-hidden": "true" }), "Checking the drawing"));
  place.prepend(figure);
  try {
    const drawing = /** @type {Drawing} */ (await change("POST", "/drawings", { text }));
    const buttons = drawing.shown ? drawButtons(drawing, place) : "";
    figure.replaceChildren(...drawPicture(drawing), drawFindings(drawing), buttons);
    if (drawing.shown) gatherSource(place, figure, parts);
  } catch (error) {
    figure.replaceChildren(make("p", { class: "note" },
      `The drawing was not checked: ${error instanceof Error ? error.message : error}`));
  }
}

/** @param {Drawing} drawing */
function drawPicture(drawing) {
  if (!drawing.shown) return [];
  const frame = make("iframe", { title: "The drawing", loading: "lazy" });
  frame.setAttribute("sandbox", "");
  frame.src = `/page/drawings/${drawing.id}`;
  const width = drawing.width || 1;
  const height = drawing.height || 1;
  const scale = SHOWN_SIDE / Math.max(width, height);
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.style.width = `${Math.round(width * scale)}px`;
  return [frame];
}

/** @param {Drawing} drawing */
function drawFindings(drawing) {
  const faults = drawing.findings.filter((finding) => finding.kind !== "style");
  const nRepaired = faults.filter((finding) => finding.repaired).length;
  const nLeft = faults.length - nRepaired;
  if (!faults.length) {
    return make("figcaption", { class: drawing.shown ? "good" : "bad-text" },
      drawing.blank ? "It is blank." : drawing.shown ? "No faults." : "Nothing can be shown.");
  }
  const isBlank = drawing.blank ? "it is blank" : "";
  const title = [nRepaired ? `${count(nRepaired, "fault")} repaired` : "", nLeft ? `${count(nLeft, "fault")} left` : "",
    isBlank, drawing.shown ? "" : "nothing can be shown"].filter(Boolean).join(", ");
  announce(`A drawing: ${title}`);
  return make("details", { class: "findings" }, make("summary", {}, title), make("ul", {},
    ...faults.map((finding) => make("li", {}, make("span", { class: "quiet" }, `line ${finding.line} `),
      finding.message, finding.repaired && finding.repair
        ? make("span", { class: "good" }, ` Repaired: ${finding.repair}.`) : null))));
}

/**
 * Puts all parts of the source into one place, beside the picture or below it.
 *
 * @param {HTMLElement} place
 * @param {HTMLElement} figure
 * @param {HTMLElement[]} parts
 */
function gatherSource(place, figure, parts) {
  for (const pre of parts.slice(1)) /** @type {HTMLElement} */ (pre.parentElement).hidden = true;
  const head = place.querySelector(".code-head");
  place.replaceChildren(figure, make("div", { class: "source" },
    make("div", {}, head, make("div", { class: "source-code" }, ...parts))));
  place.classList.add("has-drawing");
}

/**
 * @param {Drawing} drawing
 * @param {HTMLElement} place
 */
function drawButtons(drawing, place) {
  const source = make("button", { class: "plain", type: "button", click: () => show(place.matches(".folded")) });
  const show = (/** @type {boolean} */ isShown) => {
    place.classList.toggle("folded", !isShown);
    source.setAttribute("aria-expanded", String(isShown));
    source.textContent = isShown ? "Hide the source" : "Show the source";
  };
  show(find("scroll").clientWidth >= BESIDE_WIDTH);
  const row = make("div", { class: "row" });
  const save = (/** @type {string} */ name, /** @type {() => Promise<Blob>} */ read) =>
    make("button", { class: "plain", type: "button", click: () => void read().then((blob) => saveFile(blob, name)) },
      `Save ${name.slice(-3).toUpperCase()}`);
  row.append(source,
    save("drawing.svg", async () => new Blob([drawing.text ?? ""], { type: "image/svg+xml" })),
    save("drawing.png", () => readBlob(`/drawings/${drawing.id}/png`)));
  return row;
}

/**
 * @param {Blob} blob
 * @param {string} name
 */
function saveFile(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = make("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
