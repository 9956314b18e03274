/** An answer on the page: its thought, its blocks as they change, its figures and what ended it. */

import { copyText, iconButton, make, setCleanHtml } from "./dom.js";
import { count, formatCount, formatSeconds } from "./format.js";

/** @typedef {import("./types.js").Turn} Turn */
/** @typedef {import("./types.js").Change} Change */
/** @typedef {import("./types.js").AnswerEvent} AnswerEvent */
/** @typedef {import("./types.js").Figures} Figures */

const STATES = /** @type {Record<string, string>} */ ({
  loading: "Loading the model",
  reading: "Reading",
  thinking: "Thinking",
});

/** One answer. `element` is its body; `onCode` is called with each block of code that is final. */
export class AnswerBody {
  /** @param {(pre: HTMLElement[], isLast: boolean) => void} onCode with the parts of a code block */
  constructor(onCode) {
    this.onCode = onCode;
    this.state = make("p", { class: "state" }, make("span", { class: "dots", "aria-hidden": "true" }),
      make("span", {}));
    this.thoughtText = make("div", { class: "thought-text" });
    this.thoughtNote = make("span", { class: "quiet" });
    this.thoughtTitle = make("span", {}, "Thought");
    this.thought = make("details", { class: "thought", hidden: true },
      make("summary", {}, this.thoughtTitle, this.thoughtNote), this.thoughtText);
    this.blocks = make("div", { class: "blocks" });
    this.notes = make("div", { class: "notes" });
    this.element = make("div", { class: "answer" }, this.thought, this.blocks, this.state, this.notes);
    this.seenCode = new WeakSet();
    /** @type {Element | null} */
    this.growing = null;
    this.model = "";
  }

  /**
   * Shows a turn that is finished, or as far as it is written.
   *
   * @param {Turn} turn
   */
  show(turn) {
    this.model = turn.model;
    this.addThought(turn.thought);
    this.describeThought(turn.figures.thought_s ?? 0, false);
    this.applyChanges(turn.blocks);
    if (turn.running) this.showState("loading");
    else this.showEnd(turn.finish, turn.figures, turn.calls);
  }

  /**
   * Shows what is new.
   *
   * @param {AnswerEvent} event
   */
  apply(event) {
    this.addThought(event.thought);
    this.describeThought(event.thought_s, event.state === "thinking");
    this.applyChanges(event.changes);
    this.showState(event.end || this.blocks.childElementCount ? "" : event.state, event.prompt_tokens);
    this.markGrowing(!event.end && event.state === "writing" ? this.blocks.lastElementChild : null);
    if (event.end) this.model = event.end.model;
    if (event.end) this.showEnd(event.end.finish, event.end.figures, event.end.calls);
  }

  /** @param {Element | null} block the one with a cursor at its end */
  markGrowing(block) {
    if (block === this.growing) return;
    this.growing?.classList.remove("growing");
    block?.classList.add("growing");
    this.growing = block;
  }

  /** @param {Change[]} changes */
  applyChanges(changes) {
    for (const change of changes) {
      let block = /** @type {HTMLElement | null} */ (this.blocks.children[change.block] ?? null);
      if (change.html !== undefined) {
        if (!block) {
          block = make("div", { class: change.joined ? "block joined" : "block" });
          if (change.joined) this.blocks.lastElementChild?.classList.add("continues");
          this.blocks.append(block);
          this.finishCode(change.block - 1, false);
        }
        setCleanHtml(block, change.html);
      } else if (block && change.text) {
        block.querySelector("code")?.append(change.text);
      }
    }
  }

  /**
   * Adds the head of a block of code when all of it is there.
   *
   * @param {number} index of its last part
   * @param {boolean} isLast of the answer
   */
  finishCode(index, isLast) {
    const next = this.blocks.children[index + 1];
    if (next?.classList.contains("joined")) return;
    const parts = /** @type {HTMLElement[]} */ ([]);
    for (; index >= 0; index--) {
      const block = this.blocks.children[index];
      const pre = /** @type {HTMLElement | null} */ (block.querySelector(":scope > pre"));
      if (!pre) break;
      parts.unshift(pre);
      if (!block.classList.contains("joined")) break;
    }
    if (!parts.length || this.seenCode.has(parts[0])) return;
    this.seenCode.add(parts[0]);
    const first = /** @type {HTMLElement} */ (parts[0].parentElement);
    const button = iconButton("copy", "Copy the code", () => void copyText(button, joinCode(parts)));
    first.prepend(make("div", { class: "code-head" },
      make("span", {}, parts[0].dataset.language || "text"), button));
    for (const pre of parts) pre.tabIndex = 0; // wide lines scroll
    this.onCode(parts, isLast);
  }

  /** @param {string} text */
  addThought(text) {
    if (!text) return;
    this.thought.hidden = false;
    this.thoughtText.append(text);
  }

  /**
   * @param {number} seconds
   * @param {boolean} isOpen whether it is being written
   */
  describeThought(seconds, isOpen) {
    const words = (this.thoughtText.textContent ?? "").split(/\s+/).length;
    this.thoughtTitle.textContent = isOpen ? "Thinking" : "Thought";
    this.thoughtNote.textContent = count(words, "word") +
      (seconds ? `, ${formatSeconds(seconds)}` : "");
    this.thought.classList.toggle("writing", isOpen);
  }

  /**
   * @param {string} state "": nothing to wait for
   * @param {number} [nPrompt]
   */
  showState(state, nPrompt) {
    const text = STATES[state] ?? "";
    const tokens = state === "reading" && nPrompt ? ` ${count(nPrompt, "token")}` : "";
    const label = /** @type {HTMLElement} */ (this.state.lastElementChild);
    if (label.textContent !== text + tokens) label.textContent = text + tokens;
    this.state.hidden = !state || state === "thinking";
  }

  /**
   * @param {string} finish
   * @param {Figures} figures
   * @param {string[]} calls
   */
  showEnd(finish, figures, calls) {
    this.showState("");
    this.markGrowing(null);
    for (let i = 0; i < this.blocks.childElementCount; i++) {
      this.finishCode(i, i === this.blocks.childElementCount - 1);
    }
    this.notes.replaceChildren(...describeEnd(finish, figures, calls, this.model));
  }
}

/**
 * Returns the text of a block of code that was sent in parts.
 *
 * @param {HTMLElement[]} parts
 */
export function joinCode(parts) {
  return parts.map((pre) => pre.textContent).join("\n");
}

/**
 * Returns the notes below an answer that did not simply end.
 *
 * @param {string} finish
 * @param {Figures} figures
 * @param {string[]} calls
 * @param {string} model
 */
function describeEnd(finish, figures, calls, model) {
  const notes = [];
  if (figures.error) {
    const hint = figures.error.hint ? make("code", {}, figures.error.hint) : null;
    notes.push(make("p", { class: "note bad" }, capitalize(figures.error.message) + ". ", hint));
  } else if (figures.loop) {
    notes.push(describeLoop(figures.loop, model, finish === "loop"));
  } else if (finish === "interrupted") {
    notes.push(make("p", { class: "note" }, "Stopped."));
  } else if (finish === "partial") {
    notes.push(make("p", { class: "note" }, "The server ended while this was written."));
  } else if (finish === "length") {
    notes.push(make("p", { class: "note" }, figures.context_full
      ? "The context is full: begin a new conversation, or load the model with a larger context (settings)."
      : "Cut off at the limit of tokens; the settings have it."));
  }
  if (figures.dropped_messages) {
    notes.push(make("p", { class: "note" },
      `The oldest ${count(figures.dropped_messages, "message")} ` +
      `${figures.dropped_messages === 1 ? "was" : "were"} left out: the context has no room for more.`));
  }
  if (calls.length) {
    notes.push(make("p", { class: "note" }, `Asked to call: ${calls.join(", ")}`));
  }
  return notes;
}

/**
 * @param {import("./types.js").Loop} loop
 * @param {string} model
 * @param {boolean} stopped
 */
function describeLoop(loop, model, stopped) {
  const command = loop.command || `g4 doctor ${model}`;
  const button = iconButton("copy", "Copy the command", () => void copyText(button, command));
  const what = loop.kind === "few-tokens" ? `the same ${count(loop.period, "token")}`
    : loop.kind === "few-phrases" ? "a few phrases"
    : `the same text ${count(Math.floor(loop.covered / loop.period), "time")}`;
  // A sound model drifts into a loop; a damaged one begins with it. 16 tokens are a choice: some
  // words may come before.
  const cause = loop.onset < loop.period + 16 ? "It repeats from the beginning: the file may be damaged. Examine it with "
    : "A sound model can drift into a loop. If it happens often, examine the file with ";
  return make("div", { class: "note bad" },
    make("p", {}, `${stopped ? "Stopped: t" : "T"}he answer repeated ${what} (${count(loop.covered, "token")}, ` +
      `from token ${formatCount(loop.onset + 1)}).`),
    make("p", { class: "loop-unit" }, make("code", {}, loop.unit.trim() || JSON.stringify(loop.unit))),
    make("p", {}, cause, make("code", {}, command), button));
}

/**
 * Returns the line of figures below an answer, or null without any.
 *
 * @param {Figures} figures
 */
export function describeFigures(figures) {
  const { completion_tokens: n, decode_s: seconds, prompt_tokens: nPrompt } = figures;
  if (!n || !nPrompt) return null;
  const speed = seconds ? `${(n / seconds).toFixed(1)} tokens/s` : "";
  const cached = figures.reused_tokens ? `, ${formatCount(figures.reused_tokens)} cached` : "";
  const parts = [speed, count(n, "token"), `prompt ${formatCount(nPrompt)}${cached}`];
  return make("span", { class: "figures quiet" }, parts.filter(Boolean).join(" · "));
}

/** @param {string} text */
function capitalize(text) {
  return text.charAt(0).toUpperCase() + text.slice(1).replace(/\.$/, "");
}

