/** The models: on the disk and to be pulled, how each fits this machine; load, unload, pull. */

import { change, read } from "./api.js";
import { openDialog } from "./dialog.js";
import { announce, make } from "./dom.js";
import { drawFit } from "./fit.js";
import { formatCount, formatSize } from "./format.js";

/** @typedef {import("./types.js").ServedModel} ServedModel */
/**
 * @typedef {{name: string, nbytes: number, here: boolean}} KnownType
 * @typedef {{name: string, title: string, types: KnownType[]}} KnownModel
 * @typedef {{name: string, state: string, error: string, hint: string, message: string,
 *   parts: {name: string, done: number, total: number}[]}} Pull
 */

const POLL_MS = 700; // between two looks how far pulls are, a choice

/** The dialog. `onChange` is called when models were loaded, unloaded or pulled. */
export class ModelDialog {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    this.served = make("div", { class: "rows" });
    this.known = make("div", { class: "rows" });
    this.note = make("p", { class: "note", role: "status" });
    this.isFixed = false;
    /** @type {Map<string, Pull>} */
    this.pulls = new Map();
    /** @type {Map<string, HTMLElement>} */
    this.progress = new Map();
    /** @type {Set<string>} models that are unloaded after their answers */
    this.ending = new Set();
    this.dialog = openDialog("Models", this.note, make("h3", {}, "On this machine"), this.served,
      make("h3", {}, "Available"), this.known);
    this.dialog.classList.add("wide");
    void this.run();
  }

  async run() {
    try {
      await this.draw();
      while (this.dialog.open) {
        if ([...this.pulls.values()].some((pull) => isActive(pull))) await this.readPulls();
        if (this.ending.size) await this.readEnding();
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    } catch (error) {
      this.showError(error);
    }
  }

  async draw() {
    const [served, catalog, pulls] = await Promise.all([read("/models"), read("/catalog"), read("/pulls")]);
    this.isFixed = served.fixed;
    this.pulls = new Map(pulls.pulls.map((/** @type {Pull} */ pull) => [pull.name, pull]));
    this.progress.clear();
    /** @type {[HTMLElement, string][]} */
    const fits = [];
    this.served.replaceChildren(...served.models.map((/** @type {ServedModel} */ model) => this.drawServed(model, fits)));
    if (!served.models.length) this.served.append(make("p", { class: "quiet" }, "No model yet: pull one below."));
    this.known.replaceChildren(...catalog.models.map((/** @type {KnownModel} */ model) =>
      this.drawKnown(model, fits, catalog.may_pull)));
    if (this.isFixed) {
      this.known.append(make("p", { class: "quiet" }, "This server offers the models of its command line. " +
        "To use others here too, start it without a name: ", make("code", {}, "g4 serve")));
    }
    void this.drawFits(fits);
  }

  /** @param {[HTMLElement, string][]} fits one after the other: each takes a moment */
  async drawFits(fits) {
    for (const [place, path] of fits) {
      if (!this.dialog.open) return;
      if (!place.isConnected) continue;
      try {
        place.replaceChildren(drawFit(await read(path)));
      } catch (error) {
        place.replaceChildren(make("p", { class: "quiet" }, error instanceof Error ? error.message : ""));
      }
    }
  }

  /**
   * @param {ServedModel} model
   * @param {[HTMLElement, string][]} fits
   */
  drawServed(model, fits) {
    const fit = make("div", { class: "fit" });
    fits.push([fit, `/models/fit?name=${encodeURIComponent(model.name)}`]);
    const together = model.n_slots > 1 ? ` for each of ${model.n_slots} answers at once` : "";
    const state = model.loaded ? `loaded, context ${formatCount(model.n_ctx)}${together}` : "not loaded";
    const action = model.loaded ? "unload" : "load";
    const button = make("button", { class: "secondary", type: "button",
      "aria-label": `${action} ${model.name}`, click: () => void this.act(button, action, model.name) },
      model.loaded ? "Unload" : "Load");
    return make("section", { class: "model", "aria-label": model.name },
      make("div", { class: "model-head" }, make("strong", {}, model.name),
        make("span", { class: "quiet" }, `${model.type}, ${formatSize(model.nbytes)}, ${state}`), button), fit);
  }

  /**
   * @param {KnownModel} model
   * @param {[HTMLElement, string][]} fits
   * @param {boolean} mayPull
   */
  drawKnown(model, fits, mayPull) {
    const fit = make("div", { class: "fit" });
    const progress = make("div", { class: "pull" });
    const choice = make("select", { "aria-label": `Type of ${model.name}`, change: () => {
      describe();
      fit.replaceChildren();
      void this.drawFits([[fit, fitPath()]]);
    } },
      ...model.types.map((type) => make("option", { value: type.name },
        type.name + (type.nbytes ? ` · ${formatSize(type.nbytes)}` : "") + (type.here ? " · here" : ""))));
    const button = make("button", { class: "secondary", type: "button",
      click: () => void this.pull(`${model.name}:${choice.value}`) }, "Pull");
    const describe = () => {
      const name = `${model.name}:${choice.value}`;
      const isHere = model.types.find((type) => type.name === choice.value)?.here ?? false;
      button.disabled = isHere;
      button.textContent = isHere ? "Pulled" : "Pull";
      button.setAttribute("aria-label", `${button.textContent} ${name}`);
      this.progress.set(name, progress);
      const pull = this.pulls.get(name);
      progress.replaceChildren(...(pull ? this.drawPull(pull) : []));
    };
    const fitPath = () => `/catalog/fit?name=${encodeURIComponent(`${model.name}:${choice.value}`)}`;
    const section = make("section", { class: "model", "aria-label": model.title },
      make("div", { class: "model-head" }, make("strong", {}, model.title), choice, mayPull ? button : null),
      progress, fit);
    describe();
    fits.push([fit, fitPath()]);
    return section;
  }

  /** @param {Pull} pull */
  drawPull(pull) {
    const done = pull.parts.reduce((sum, part) => sum + part.done, 0);
    const total = pull.parts.reduce((sum, part) => sum + part.total, 0);
    if (pull.state === "failed") {
      return [make("p", { class: "note bad" }, `${pull.error}. `, pull.hint ? make("code", {}, pull.hint) : null)];
    }
    if (pull.state === "done") return [make("p", { class: "note good" }, "Pulled.")];
    if (pull.state === "stopped") {
      return [make("p", { class: "note" }, "Stopped; the next pull goes on from here.")];
    }
    const bar = make("progress", { max: 1, "aria-label": `Pull of ${pull.name}` });
    if (total) bar.value = done / total;
    const text = pull.state === "waiting" ? "waiting"
      : total ? `${formatSize(done)} of ${formatSize(total)}` : pull.parts.at(-1)?.name || "looking it up";
    const stop = make("button", { class: "plain", type: "button", "aria-label": `Stop the pull of ${pull.name}`,
      click: () => void change("POST", "/pulls/stop", { name: pull.name }).catch((error) => this.showError(error)) },
      "Stop");
    return [bar, make("span", { class: "quiet" }, text), stop];
  }

  async readPulls() {
    /** @type {Pull[]} */
    const pulls = (await read("/pulls")).pulls;
    let hasEnded = false;
    for (const pull of pulls) {
      const before = this.pulls.get(pull.name);
      this.pulls.set(pull.name, pull);
      const place = this.progress.get(pull.name);
      const hadFocus = place?.contains(document.activeElement);
      place?.replaceChildren(...this.drawPull(pull));
      if (hadFocus) place?.querySelector("button")?.focus();
      if (before && isActive(before) && !isActive(pull)) {
        hasEnded = true;
        announce(`${pull.name}: ${pull.state}`);
      }
    }
    if (hasEnded) {
      this.onChange();
      await this.draw();
    }
  }

  async readEnding() {
    /** @type {ServedModel[]} */
    const models = (await read("/models")).models;
    const ended = [...this.ending].filter((name) => !models.some((model) => model.name === name && model.loaded));
    if (!ended.length) return;
    for (const name of ended) {
      this.ending.delete(name);
      announce(`${name}: unloaded`);
    }
    this.showError(null);
    this.onChange();
    await this.draw();
  }

  /** @param {string} name */
  async pull(name) {
    try {
      const pull = await change("POST", "/pulls", { name });
      this.pulls.set(name, pull);
      this.progress.get(name)?.replaceChildren(...this.drawPull(pull));
      this.showError(null);
    } catch (error) {
      this.showError(error);
    }
  }

  /**
   * @param {HTMLButtonElement} button
   * @param {string} action
   * @param {string} name
   */
  async act(button, action, name) {
    button.disabled = true;
    button.textContent = action === "load" ? "Loading" : "Unloading";
    try {
      const answer = await change("POST", `/models/${action}`, { name });
      const isEnding = action === "unload" && answer.loaded;
      this.ending[isEnding ? "add" : "delete"](name);
      this.showError(null);
      if (isEnding) this.note.textContent = `${name} answers now, and is unloaded after that.`;
      else announce(`${name}: ${action}ed`);
    } catch (error) {
      this.showError(error);
    }
    this.onChange();
    await this.draw();
  }

  /** @param {unknown} error null: none any more */
  showError(error) {
    this.note.className = error === null ? "note" : "note bad";
    this.note.textContent = error === null ? "" : error instanceof Error ? error.message : String(error);
  }
}

/** @param {Pull} pull */
function isActive(pull) {
  return pull.state === "waiting" || pull.state === "running";
}
