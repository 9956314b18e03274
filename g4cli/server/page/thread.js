/** The turns of the conversation that is open, with their buttons. */

import { AnswerBody, describeFigures } from "./answer.js";
import { copyText, find, iconButton, make } from "./dom.js";
import { formatCount } from "./format.js";

/** @typedef {import("./types.js").Turn} Turn */
/** @typedef {import("./types.js").Conversation} Conversation */

/**
 * What the buttons do.
 *
 * @typedef {{again: (turn: Turn) => void, edit: (turn: Turn, text: string) => void,
 *   show: (turn: number) => void, remove: (turn: Turn) => void,
 *   loadMedia: (turn: Turn, number: number) => Promise<string>,
 *   onCode: (parts: HTMLElement[], isLast: boolean) => void}} ThreadActions
 */

/** The list of turns; `answers` are those of the model by their ids. */
export class Thread {
  /** @param {ThreadActions} actions */
  constructor(actions) {
    this.actions = actions;
    this.element = find("thread");
    this.scroll = find("scroll");
    /** @type {Map<number, AnswerBody>} */
    this.answers = new Map();
    this.toEnd = find("to-end");
    this.toEnd.addEventListener("click", () => this.scrollToEnd());
    this.scroll.addEventListener("scroll", () => this.noteScroll(), { passive: true });
    this.follows = true;
  }

  /**
   * Shows a conversation, or the greeting.
   *
   * @param {Conversation | null} conversation
   * @param {Node} greeting
   */
  show(conversation, greeting) {
    this.answers.clear();
    const turns = conversation?.turns ?? [];
    this.element.replaceChildren(...(turns.length ? turns.map((turn) => this.draw(turn)) : [greeting]));
    this.scrollToEnd();
  }

  /**
   * Replaces the buttons below an answer once it is finished.
   *
   * @param {Turn} turn
   */
  finish(turn) {
    const element = this.element.querySelector(`[data-turn="${turn.id}"]`);
    element?.querySelector(".turn-foot")?.replaceWith(this.drawFoot(turn));
  }

  /** @param {Turn} turn */
  draw(turn) {
    return turn.role === "assistant" ? this.drawAnswer(turn)
      : turn.role === "user" ? this.drawQuestion(turn) : this.drawTool(turn);
  }

  /** @param {Turn} turn */
  drawAnswer(turn) {
    const body = new AnswerBody(this.actions.onCode);
    body.show(turn);
    this.answers.set(turn.id, body);
    return make("article", { class: "turn assistant", "data-turn": turn.id },
      make("h2", { class: "speaker" }, turn.model || "Model"), body.element, this.drawFoot(turn));
  }

  /** @param {Turn} turn */
  drawTool(turn) {
    return make("article", { class: "turn tool", "data-turn": turn.id },
      make("h2", { class: "speaker" }, "Tool"), make("pre", { tabIndex: 0 }, turn.text));
  }

  /** @param {Turn} turn */
  drawQuestion(turn) {
    const media = turn.media.map((medium, number) => this.drawMedium(turn, medium.kind, number));
    return make("article", { class: "turn user", "data-turn": turn.id },
      make("h2", { class: "speaker unseen" }, "You"),
      media.length ? make("div", { class: "media" }, ...media) : null,
      turn.text ? make("div", { class: "bubble" }, turn.text) : null,
      this.drawFoot(turn));
  }

  /**
   * @param {Turn} turn
   * @param {string} kind
   * @param {number} number
   */
  drawMedium(turn, kind, number) {
    const element = kind === "image" ? make("img", { alt: `Picture ${number + 1}`, loading: "lazy" })
      : make("audio", { controls: true, preload: "metadata" });
    this.actions.loadMedia(turn, number).then((url) => (element.src = url), () => {
      element.replaceWith(make("span", { class: "note" }, "The file was moved or deleted."));
    });
    return element;
  }

  /** @param {Turn} turn */
  drawFoot(turn) {
    const foot = make("div", { class: "turn-foot" });
    if (turn.running) return foot;
    if (turn.siblings.length > 1) foot.append(this.drawBranches(turn));
    if (turn.text) {
      const copy = iconButton("copy", "Copy", () => void copyText(copy, turn.text));
      foot.append(copy);
    }
    if (turn.role === "user") {
      foot.append(iconButton("edit", "Edit and ask again", () => this.edit(turn)),
        iconButton("again", "Answer this question", () => this.actions.again(turn), "icon unanswered"));
    } else {
      foot.append(iconButton("again", "Try again", () => this.actions.again(turn)));
    }
    foot.append(iconButton("trash", "Delete this and what follows", () => this.actions.remove(turn)));
    if (turn.role !== "user") {
      const figures = describeFigures(turn.figures);
      if (figures) foot.append(figures);
    }
    return foot;
  }

  /** @param {Turn} turn */
  drawBranches(turn) {
    const { siblings, id } = turn;
    const at = siblings.indexOf(id);
    const text = `${formatCount(at + 1)} / ${formatCount(siblings.length)}`;
    const left = iconButton("left", "Show the version before", () => this.actions.show(siblings[at - 1]));
    const right = iconButton("right", "Show the next version", () => this.actions.show(siblings[at + 1]));
    left.disabled = at === 0;
    right.disabled = at === siblings.length - 1;
    const label = `Version ${at + 1} of ${siblings.length}`;
    return make("span", { class: "branches", role: "group", "aria-label": label }, left,
      make("span", { "aria-hidden": "true" }, text), right);
  }

  /** @param {Turn} turn */
  edit(turn) {
    const element = /** @type {HTMLElement} */ (this.element.querySelector(`[data-turn="${turn.id}"]`));
    const area = make("textarea", { value: turn.text, "aria-label": "Edit the question",
      rows: Math.min(12, turn.text.split("\n").length + 1) });
    const end = () => element.replaceWith(this.draw(turn));
    const save = () => {
      if (!area.value.trim() && !turn.media.length) return;
      end();
      this.actions.edit(turn, area.value);
    };
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        end();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        save();
      }
    });
    element.replaceChildren(make("div", { class: "edit" }, area, make("div", { class: "row" },
      make("button", { class: "plain", type: "button", click: end }, "Cancel"),
      make("button", { class: "primary", type: "button", click: save }, "Ask"))));
    area.focus();
  }

  /** Goes on showing the end while an answer grows, unless the user has scrolled up. */
  followEnd() {
    if (this.follows) this.scroll.scrollTop = this.scroll.scrollHeight;
    else this.noteScroll();
  }

  scrollToEnd() {
    this.follows = true;
    this.scroll.scrollTop = this.scroll.scrollHeight;
    this.toEnd.hidden = true;
  }

  noteScroll() {
    const left = this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight;
    this.follows = left < 60; // pixels, choices: about two lines
    this.toEnd.hidden = left < 300; // half a screen
  }
}
