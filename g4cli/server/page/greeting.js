/** What stands on the page before the first question. */

import { make } from "./dom.js";

/**
 * Returns a greeting; without a model it says how to get one.
 *
 * @param {boolean} hasModel
 * @param {() => void} onChoose opens the list of models
 */
export function drawGreeting(hasModel, onChoose) {
  const [title, text] = hasModel ? ["What would you like to know?", "Everything stays on this machine."]
    : ["First, a model", "The list shows what fits into the memory of this machine. A model that is pulled stays on the disk."];
  return make("div", { class: "greeting" }, make("p", { class: "logo", "aria-hidden": "true" }, "g4"),
    make("p", { class: "welcome" }, title), make("p", { class: "quiet" }, text),
    hasModel ? null : make("button", { class: "primary", type: "button", click: onChoose }, "Choose a model"));
}
