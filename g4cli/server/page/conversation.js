/** The conversation that is open: ask, watch answers, branch; in step with other tabs. */

import { change, read, readBlob, RequestError, watchAnswer } from "./api.js";
import { announce, find } from "./dom.js";

/** @typedef {import("./types.js").Conversation} Conversation */
/** @typedef {import("./types.js").Turn} Turn */
/** @typedef {import("./types.js").Medium} Medium */
/** @typedef {import("./thread.js").Thread} Thread */

const ANNOUNCED = 2000; // characters of an answer that are read aloud
const HIDDEN_FRAME_MS = 250; // between two changes of a page that is not shown: it gets no frames
const RETRY_MS = [300, 1000, 2000, 4000]; // after a lost connection, a choice; then the last again
const DELETED = "This conversation was deleted in another window or by g4 chats.";

/**
 * What the conversation needs of the page.
 *
 * @typedef {{thread: Thread, greeting: () => Node, settings: () => Record<string, any>,
 *   onChange: () => void, onDeleted: () => void, onAnswering: (isAnswering: boolean) => void,
 *   onError: (error: unknown) => void}} Surroundings
 */

/** The open conversation. `id` is null for one that has no turn yet. */
export class OpenConversation {
  /** @param {Surroundings} page */
  constructor(page) {
    this.page = page;
    /** @type {number | null} */
    this.id = null;
    this.system = "";
    /** @type {Turn[]} */
    this.turns = [];
    /** @type {AbortController | null} */
    this.watching = null;
    this.channel = new BroadcastChannel("g4");
    this.channel.addEventListener("message", (event) => {
      if (event.data === this.id && this.id !== null) void this.reload();
      this.page.onChange();
    });
  }

  /** The turn that is being answered, or undefined. */
  get running() {
    return this.turns.find((turn) => turn.running);
  }

  /**
   * Opens a conversation; null: a new one.
   *
   * @param {number | null} id
   */
  async open(id) {
    this.stopWatching();
    this.id = id;
    if (id !== null) {
      await this.reload();
      return;
    }
    this.turns = [];
    this.system = "";
    this.showGreeting();
    this.showTitle("");
    this.page.onAnswering(false);
  }

  /** Shows the greeting if there is no turn. */
  showGreeting() {
    if (!this.turns.length) this.page.thread.show(null, this.page.greeting());
  }

  /** Reads the open conversation again. */
  async reload() {
    const id = this.id;
    if (id === null) return;
    /** @type {Conversation} */
    let found;
    try {
      found = await read(`/conversations/${id}`);
    } catch (error) {
      if (id !== this.id) return;
      const isGone = isMissing(error);
      if (isGone) this.page.onDeleted();
      this.page.onError(isGone ? new Error(DELETED) : error);
      return;
    }
    if (id !== this.id) return;
    this.stopWatching();
    this.turns = found.turns;
    this.system = found.system;
    this.page.thread.show(found, this.page.greeting());
    this.showTitle(found.title);
    this.page.onAnswering(Boolean(this.running));
    if (this.running) void this.watch(this.running);
  }

  /** @param {string} title */
  showTitle(title) {
    find("title").textContent = title || "New conversation";
    document.title = title ? `${title} · g4` : "g4";
  }

  /**
   * Asks a question after the last turn, or after `parent`.
   *
   * @param {string} text
   * @param {Medium[] | Promise<Medium[]>} media
   * @param {number | null} [parent]
   */
  async ask(text, media, parent = this.turns.at(-1)?.id ?? null) {
    // The user may open another conversation while this one is waited for.
    let { id } = this;
    const { system } = this;
    const body = { ...this.page.settings(), parent, text, media: await media };
    if (id === null) {
      id = /** @type {number} */ ((await change("POST", "/conversations", { system })).id);
      if (this.id === null) {
        this.id = id;
        history.replaceState(null, "", `#${id}`);
      }
    }
    try {
      await change("POST", `/conversations/${id}/questions`, body);
    } catch (error) {
      if (id !== this.id || !isMissing(error) || await this.isThere()) throw error;
      this.page.onDeleted();
      throw new Error(`${DELETED} Ask again to begin a new one.`);
    }
    if (id === this.id) await this.noteChange();
    else this.page.onChange();
  }

  /** Returns whether the server still has the open conversation. */
  async isThere() {
    return read(`/conversations/${this.id}`).then(() => true, (error) => !isMissing(error));
  }

  /**
   * Asks for one more answer to the question `turn`, or to the one before the answer `turn`.
   *
   * @param {Turn} turn
   */
  async answerAgain(turn) {
    const question = turn.role === "assistant" ? turn.parent : turn.id;
    const path = `/conversations/${this.id}/questions/${question}/answers`;
    await change("POST", path, this.page.settings());
    await this.noteChange();
  }

  /**
   * Shows another version of a turn, and what follows it.
   *
   * @param {number} turn
   */
  async showBranch(turn) {
    await change("POST", `/conversations/${this.id}`, { branch: turn });
    await this.noteChange();
  }

  /**
   * Deletes a turn and all that follow it, in every version of them; returns whether any is left.
   *
   * @param {Turn} turn
   * @returns {Promise<boolean>}
   */
  async deleteTurn(turn) {
    const { left } = await change("DELETE", `/conversations/${this.id}/turns/${turn.id}`);
    if (left) await this.noteChange();
    else this.channel.postMessage(this.id);
    return left;
  }

  /** @param {string} system */
  async setSystem(system) {
    this.system = system;
    if (this.id === null) return;
    await change("POST", `/conversations/${this.id}`, { system });
    this.channel.postMessage(this.id);
  }

  /** Ends the answer that is being written. */
  async stop() {
    if (this.running) await change("POST", `/answers/${this.running.id}/stop`);
  }

  async noteChange() {
    await this.reload();
    this.page.onChange();
    this.channel.postMessage(this.id);
  }

  /**
   * Returns the address of an image or a sound of a turn, for this page only.
   *
   * @param {Turn} turn
   * @param {number} number
   */
  async loadMedia(turn, number) {
    const path = `/conversations/${this.id}/turns/${turn.id}/media/${number}`;
    const blob = await readBlob(path);
    return URL.createObjectURL(blob);
  }

  /**
   * Shows an answer while it is written. When the connection is lost, it tries again: the answer
   * goes on without the page, from where the page has seen it.
   *
   * @param {Turn} turn
   */
  async watch(turn) {
    const watching = (this.watching = new AbortController());
    const seen = { after: "0.0" };
    for (let attempt = 0; !watching.signal.aborted; attempt++) {
      try {
        for await (const event of watchAnswer(turn.id, watching.signal, seen)) {
          if (watching.signal.aborted) return;
          attempt = 0;
          this.page.thread.answers.get(turn.id)?.apply(event);
          await waitForFrame(); // one event a frame, if several have come at once
          this.page.thread.followEnd();
          if (event.end) {
            this.end(turn, event.end);
            return;
          }
        }
      } catch (error) {
        if (watching.signal.aborted) return;
        if (isMissing(error)) {
          await this.reload(); // it has ended meanwhile, or the server was started again
          this.page.onChange();
          return;
        }
        if (attempt) this.page.onError(error); // one cut of the connection is nobody's concern
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(attempt, 3)]));
      }
    }
  }

  /**
   * @param {Turn} turn
   * @param {import("./types.js").AnswerEnd} end
   */
  end(turn, end) {
    Object.assign(turn, end, { running: false });
    this.page.thread.finish(turn);
    this.page.thread.followEnd();
    this.page.onAnswering(false);
    this.page.onChange();
    const error = end.figures.error?.message ?? "";
    announce(`${end.model} answered: ${end.text.slice(0, ANNOUNCED)}${error}`);
  }

  stopWatching() {
    this.watching?.abort();
    this.watching = null;
  }
}

/** @param {unknown} error */
function isMissing(error) {
  return error instanceof RequestError && error.status === 404;
}

/** Waits until the browser draws next; a page that is hidden is not drawn, and does not wait long. */
function waitForFrame() {
  return new Promise((resolve) => {
    requestAnimationFrame(resolve);
    setTimeout(resolve, HIDDEN_FRAME_MS);
  });
}
