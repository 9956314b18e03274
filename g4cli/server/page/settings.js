/** The side panel: system prompt, thinking, sampling, limits; defaults are those of the model. */

import { ContextField } from "./context.js";
import { find, make } from "./dom.js";
import { formatCount, formatSize } from "./format.js";

/** @typedef {import("./types.js").ServedModel} ServedModel */

const STORED = "g4-settings";
const THINKING = [
  ["off", "Off"],
  ["low", "Short: up to 256 tokens"],
  ["medium", "Medium: up to 1,024 tokens"],
  ["on", "As long as it takes"],
];
/** Field, label, step, lowest, highest. */
const SAMPLING = /** @type {[keyof import("./types.js").Sampling, string, number, number, number][]} */ ([
  ["temp", "Temperature", 0.05, 0, 5],
  ["top_p", "Top p", 0.01, 0, 1],
  ["top_k", "Top k", 1, 0, 1000],
  ["min_p", "Min p", 0.01, 0, 1],
  ["repeat_penalty", "Repeat penalty", 0.01, 0.1, 3],
  ["seed", "Seed", 1, 0, 4294967295],
]);

/** The panel and its values. */
export class Settings {
  /**
   * @param {(system: string) => void} onSystem
   * @param {() => void} onLoaded when a model was loaded again
   */
  constructor(onSystem, onLoaded) {
    this.panel = find("settings");
    this.button = find("toggle-settings");
    this.button.addEventListener("click", () => this.toggle());
    this.values = /** @type {Record<string, any>} */ (readStored());
    this.system = make("textarea", { id: "system", rows: 5, placeholder: "None",
      change: () => onSystem(this.system.value) });
    this.thinking = make("select", { id: "thinking", change: () => this.store("thinking", this.thinking.value) },
      ...THINKING.map(([value, text]) => make("option", { value }, text)));
    this.thinking.value = this.values.thinking ?? "off";
    this.maxTokens = this.makeNumber("max_tokens", 1, 1, 1 << 24);
    this.loops = make("input", { type: "checkbox", id: "loops", checked: this.values.stop_on_loop !== false,
      change: () => this.store("stop_on_loop", this.loops.checked) });
    this.fields = new Map(SAMPLING.map(([name, , step, least, most]) =>
      [name, this.makeNumber(name, step, least, most)]));
    this.context = new ContextField(onLoaded);
    this.about = make("dl", { class: "about" });
    this.draw();
  }

  draw() {
    const reset = make("button", { class: "plain", type: "button", click: () => this.reset() },
      "Back to the defaults");
    this.panel.replaceChildren(
      make("div", { class: "panel-head" }, make("h2", {}, "Settings"),
        make("button", { class: "plain", type: "button", click: () => this.toggle() }, "Close")),
      field("system", "System prompt", this.system),
      field("thinking", "Thinking", this.thinking),
      make("h3", {}, "Sampling"),
      make("div", { class: "numbers" }, ...SAMPLING.map(([name, label]) =>
        field(`set-${name}`, label, /** @type {HTMLElement} */ (this.fields.get(name))))),
      make("h3", {}, "Limits"),
      field("set-max_tokens", "Most tokens of an answer", this.maxTokens),
      this.context.element,
      make("label", { class: "check" }, this.loops, "Stop an answer that repeats itself"),
      reset,
      make("h3", {}, "Model"), this.about);
  }

  /**
   * Shows the defaults of a model.
   *
   * @param {ServedModel | undefined} model
   */
  describeModel(model) {
    this.context.describeModel(model);
    if (!model) return;
    for (const [name, input] of this.fields) {
      const value = model.sampling[name];
      input.placeholder = value === null ? "random" : `${Math.round(value * 1e4) / 1e4}`;
    }
    this.maxTokens.placeholder = model.max_tokens ? formatCount(model.max_tokens) : "until the context is full";
    const context = model.loaded ? `${formatCount(model.n_ctx)} tokens`
      : `up to ${formatCount(model.n_ctx_train)} tokens`;
    const rows = [["Name", model.name], ["Type", model.type], ["File", formatSize(model.nbytes)],
      ["Context", context], ["Reads", model.modalities.join(", ")],
      ["Memory", model.loaded ? formatSize(model.memory_bytes) : "not loaded"]];
    this.about.replaceChildren(...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  }

  /** Returns the settings of the next answer, as the server takes them. */
  read() {
    /** @type {Record<string, number>} */
    const sampling = {};
    for (const [name] of this.fields) if (this.values[name] !== undefined) sampling[name] = this.values[name];
    return { thinking: this.thinking.value, max_tokens: this.values.max_tokens ?? 0,
      stop_on_loop: this.loops.checked, sampling };
  }

  /** @param {boolean} [open] */
  toggle(open = this.panel.hidden !== false) {
    this.panel.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (open) this.system.focus();
    else this.button.focus();
  }

  reset() {
    this.values = {};
    localStorage.removeItem(STORED);
    for (const input of [...this.fields.values(), this.maxTokens]) input.value = "";
    this.thinking.value = "off";
    this.loops.checked = true;
  }

  /**
   * @param {string} name
   * @param {number} step
   * @param {number} least
   * @param {number} most
   */
  makeNumber(name, step, least, most) {
    const input = make("input", { type: "number", id: `set-${name}`, step: "any", min: `${least}`,
      max: `${most}`, value: this.values[name] ?? "", inputMode: step < 1 ? "decimal" : "numeric",
      input: () => {
        const number = input.valueAsNumber;
        const whole = step < 1 ? number : Math.round(number);
        const isGood = input.value === "" || (whole >= least && whole <= most);
        input.setAttribute("aria-invalid", String(!isGood));
        if (isGood) this.store(name, input.value === "" ? undefined : whole);
      } });
    return input;
  }

  /**
   * @param {string} name
   * @param {any} value
   */
  store(name, value) {
    this.values[name] = value;
    localStorage.setItem(STORED, JSON.stringify(this.values));
  }
}

/**
 * @param {string} id
 * @param {string} label
 * @param {HTMLElement} input
 */
function field(id, label, input) {
  return make("div", { class: "field" }, make("label", { for: id }, label), input);
}

/** Returns the values that the user has set before. */
function readStored() {
  try {
    return JSON.parse(localStorage.getItem(STORED) ?? "{}") ?? {};
  } catch {
    return {};
  }
}
