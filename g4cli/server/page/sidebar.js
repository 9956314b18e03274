/** The list of conversations: search, open, rename, delete. */

import { change, read } from "./api.js";
import { askToConfirm, askForText } from "./dialog.js";
import { find, iconButton, make } from "./dom.js";
import { nameDay } from "./format.js";

/** @typedef {import("./types.js").Listed} Listed */

/** The list; `onOpen` is called with the id of a conversation, null for a new one. */
export class Sidebar {
  /**
   * @param {(id: number | null) => void} onOpen
   * @param {(error: unknown) => void} onError
   */
  constructor(onOpen, onError) {
    this.channel = new BroadcastChannel("g4"); // other tabs show what is changed here
    this.onOpen = onOpen;
    this.onError = onError;
    /** @type {number | null} */
    this.current = null;
    this.element = find("sidebar");
    this.list = find("conversations");
    this.note = find("list-note");
    this.search = /** @type {HTMLInputElement} */ (find("search"));
    this.shade = find("shade");
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.asked = 0;
    this.search.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => void this.refresh(), 150);
    });
    find("new-chat").addEventListener("click", () => this.open(null));
    find("open-sidebar").addEventListener("click", () => this.show(true));
    find("close-sidebar").addEventListener("click", () => this.show(false));
    this.shade.addEventListener("click", () => this.show(false));
  }

  /** Reads the list again. */
  async refresh() {
    const asked = ++this.asked;
    try {
      const text = this.search.value.trim();
      const found = await read(`/conversations?search=${encodeURIComponent(text)}`);
      if (asked !== this.asked) return; // an answer to a question that came later is shown already
      this.draw(found.conversations);
      this.note.hidden = found.conversations.length > 0;
      this.note.textContent = text ? "Nothing was found." : "Your conversations will be listed here.";
    } catch (error) {
      this.onError(error);
    }
  }

  /** @param {Listed[]} conversations */
  draw(conversations) {
    const items = [];
    let day = "";
    for (const item of conversations) {
      const next = nameDay(item.updated);
      if (next !== day) items.push(make("li", { class: "day" }, next));
      day = next;
      items.push(this.drawItem(item));
    }
    this.list.replaceChildren(...items);
  }

  /** @param {Listed} item */
  drawItem(item) {
    const isOpen = item.id === this.current;
    const title = item.title || "Untitled";
    return make("li", { class: isOpen ? "open" : "" },
      make("button", { class: "item", type: "button", title, "aria-current": isOpen ? "true" : undefined,
        click: () => this.open(item.id) },
        make("span", { class: "name" }, title),
        item.excerpt ? make("span", { class: "excerpt quiet" }, item.excerpt) : null,
        item.running ? make("span", { class: "dots", role: "img", "aria-label": "is being answered" }) : null),
      iconButton("edit", `Rename ${title}`, () => void this.rename(item)),
      iconButton("trash", `Delete ${title}`, () => void this.remove(item)));
  }

  /** @param {number | null} id */
  open(id) {
    this.show(false);
    this.onOpen(id);
  }

  /**
   * Marks the conversation that is open.
   *
   * @param {number | null} id
   */
  mark(id) {
    this.current = id;
    void this.refresh();
  }

  /** @param {Listed} item */
  async rename(item) {
    const title = await askForText("Rename the conversation", "Title", item.title);
    if (title === null || title.trim() === "") return;
    await change("POST", `/conversations/${item.id}`, { title }).catch(this.onError);
    this.channel.postMessage(item.id);
    await this.refresh();
  }

  /** @param {Listed} item */
  async remove(item) {
    const text = `“${item.title}” and all of its versions are deleted, also for g4 chat.`;
    if (!await askToConfirm("Delete the conversation?", text, "Delete")) return;
    await change("DELETE", `/conversations/${item.id}`).catch(this.onError);
    if (item.id === this.current) this.onOpen(null);
    this.channel.postMessage(item.id);
    await this.refresh();
  }

  /**
   * Shows or hides the list where it covers the page.
   *
   * @param {boolean} isShown
   */
  show(isShown) {
    const wasShown = this.element.classList.contains("shown");
    this.element.classList.toggle("shown", isShown);
    this.shade.hidden = !isShown;
    if (isShown) find("new-chat").focus();
    else if (wasShown) find("open-sidebar").focus();
  }
}
