/** The field for the context of a model, which is loaded again when it changes. */

import { change } from "./api.js";
import { announce, make } from "./dom.js";
import { formatCount } from "./format.js";

/** @typedef {import("./types.js").ServedModel} ServedModel */

/** The field. `onLoaded` is called when the model was loaded again. */
export class ContextField {
  /** @param {() => void} onLoaded */
  constructor(onLoaded) {
    this.onLoaded = onLoaded;
    /** @type {ServedModel | undefined} */
    this.model = undefined;
    this.isBusy = false;
    this.input = make("input", { type: "number", id: "context", min: "0", step: "any", inputMode: "numeric",
      "aria-describedby": "context-note", input: () => this.update() });
    this.button = make("button", { class: "secondary" }, "Load");
    this.note = make("p", { class: "note", id: "context-note", role: "status" });
    this.element = make("form", { class: "field", noValidate: true, submit: (/** @type {Event} */ event) => {
      event.preventDefault();
      void this.load();
    } }, make("label", { for: "context" }, "Context in tokens"),
      make("div", { class: "beside" }, this.input, this.button), this.note);
  }

  /**
   * Shows the context of a model.
   *
   * @param {ServedModel | undefined} model
   */
  describeModel(model) {
    const isSame = model?.name === this.model?.name && model?.n_ctx_chosen === this.model?.n_ctx_chosen;
    this.model = model;
    if (this.isBusy) return;
    if (!isSame) this.input.value = model?.n_ctx_chosen ? String(model.n_ctx_chosen) : "";
    this.input.disabled = !model;
    this.input.max = String(model?.n_ctx_train ?? "");
    this.input.placeholder = model?.loaded && !model.n_ctx_chosen ? formatCount(model.n_ctx) : "automatic";
    if (!isSame || !this.note.classList.contains("bad")) this.showNote();
    this.update();
  }

  update() {
    const chosen = this.input.value === "" ? 0 : this.input.valueAsNumber;
    this.button.disabled = this.isBusy || !this.model || chosen === this.model.n_ctx_chosen;
  }

  async load() {
    const model = this.model;
    if (!model || this.button.disabled) return;
    this.isBusy = true;
    this.update();
    this.showNote("Loading the model");
    try {
      const nTokens = this.input.value === "" ? 0 : Math.round(this.input.valueAsNumber);
      const { n_ctx: context } = await change("POST", "/models/context", { name: model.name, n_ctx: nTokens });
      this.showNote();
      announce(`${model.name} has a context of ${formatCount(context)} tokens`);
    } catch (error) {
      this.showNote(error instanceof Error ? error.message : String(error), "note bad");
    }
    this.isBusy = false;
    this.onLoaded();
    this.update();
  }

  /**
   * @param {string} [text]
   * @param {string} [className]
   */
  showNote(text, className = "note") {
    const most = this.model ? `Up to ${formatCount(this.model.n_ctx_train)}. ` : "";
    this.note.className = className;
    this.note.textContent = text ?? `${most}A change loads the model again.`;
  }
}
