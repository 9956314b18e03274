/** Dialogs: confirm, one line of text, the key of the server, the keyboard. */

import { iconButton, make } from "./dom.js";

/**
 * Returns an open dialog with a heading; it is removed when it is closed.
 *
 * @param {string} title
 * @param {...Node} children
 */
export function openDialog(title, ...children) {
  const dialog = make("dialog", { "aria-label": title });
  dialog.append(make("div", { class: "panel-head" }, make("h2", {}, title),
    iconButton("close", "Close", () => dialog.close())), ...children);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Returns whether the user confirms.
 *
 * @param {string} title
 * @param {string} text
 * @param {string} action
 * @returns {Promise<boolean>}
 */
export function askToConfirm(title, text, action) {
  return new Promise((resolve) => {
    let isSure = false;
    const dialog = openDialog(title, make("p", {}, text), make("div", { class: "row" },
      make("button", { class: "plain", type: "button", click: () => dialog.close() }, "Cancel"),
      make("button", { class: "danger", type: "button", click: () => {
        isSure = true;
        dialog.close();
      } }, action)));
    dialog.addEventListener("close", () => resolve(isSure));
  });
}

/**
 * Returns the line that the user types, or null.
 *
 * @param {string} title
 * @param {string} label
 * @param {string} value
 * @param {string} [type] of the input
 * @returns {Promise<string | null>}
 */
export function askForText(title, label, value, type = "text") {
  return new Promise((resolve) => {
    /** @type {string | null} */
    let answer = null;
    const input = make("input", { id: "dialog-input", type, value, autocomplete: "off" });
    const form = make("form", { class: "field", submit: (/** @type {Event} */ event) => {
      event.preventDefault();
      answer = input.value;
      dialog.close();
    } }, make("label", { for: "dialog-input" }, label), input,
      make("div", { class: "row" }, make("button", { class: "primary" }, "OK")));
    const dialog = openDialog(title, form);
    input.select();
    dialog.addEventListener("close", () => resolve(answer));
  });
}

/** @type {Promise<string> | null} */
let asking = null;

/**
 * Returns the API key that the user types; all requests that wait for one share the question.
 *
 * @returns {Promise<string>}
 */
export function askForKey() {
  asking ??= (async () => {
    for (;;) {
      const key = await askForText("This server needs a key", "API key (g4 serve --api-key)", "", "password");
      if (key?.trim()) return key.trim();
    }
  })().finally(() => (asking = null));
  return asking;
}

/** Shows what the keyboard does. */
export function showKeys() {
  const rows = [["Enter", "Send"], ["Shift+Enter", "New line"], ["Esc", "Stop the answer"],
    ["↑", "Edit the last question, if the field is empty"], ["Ctrl+Shift+O", "New conversation"],
    ["Ctrl+K", "Search"], ["Ctrl+,", "Settings"], ["Ctrl+/", "This list"]];
  openDialog("Keyboard", make("dl", { class: "keys" }, ...rows.flatMap(([keys, text]) =>
    [make("dt", {}, make("kbd", {}, keys)), make("dd", {}, text)])));
}
