/** The field for questions, with what is attached to the next one. */

import { find } from "./dom.js";

/** The field; `onSend` gets the text and returns whether it was taken. */
export class Composer {
  /**
   * @param {(text: string) => Promise<boolean>} onSend
   * @param {() => void} onStop
   */
  constructor(onSend, onStop) {
    this.onSend = onSend;
    this.area = /** @type {HTMLTextAreaElement} */ (find("question"));
    this.sendButton = /** @type {HTMLButtonElement} */ (find("send"));
    this.stopButton = /** @type {HTMLButtonElement} */ (find("stop"));
    this.hasMore = () => false; // whether there is something to send without text
    this.isBusy = false;
    this.isAnswering = false;
    this.area.addEventListener("input", () => this.update());
    this.area.addEventListener("keydown", (event) => {
      // On a phone Enter makes a line; its keyboard has no Shift+Enter.
      const isPhone = matchMedia("(pointer: coarse)").matches;
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !isPhone) {
        event.preventDefault();
        void this.send();
      }
    });
    find("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.send();
    });
    this.stopButton.addEventListener("click", onStop);
    this.update();
  }

  async send() {
    const text = this.area.value;
    if (this.isBusy || this.isAnswering || (!text.trim() && !this.hasMore())) return;
    this.isBusy = true;
    this.update();
    try {
      if (await this.onSend(text) && this.area.value === text) this.area.value = "";
    } finally {
      this.isBusy = false;
      this.update();
    }
  }

  /**
   * Shows the button to stop instead of the one to send.
   *
   * @param {boolean} isAnswering
   */
  setAnswering(isAnswering) {
    const hadFocus = document.activeElement === this.stopButton || document.activeElement === this.sendButton;
    this.isAnswering = isAnswering;
    this.sendButton.hidden = isAnswering;
    this.stopButton.hidden = !isAnswering;
    if (hadFocus) this.area.focus();
    this.update();
  }

  /** Fits the field to its text, and the button to whether there is something to send. */
  update() {
    this.sendButton.disabled = this.isBusy || (!this.area.value.trim() && !this.hasMore());
    this.area.style.height = "auto";
    this.area.style.height = `${Math.min(this.area.scrollHeight, 240)}px`;
  }

  focus() {
    this.area.focus();
  }
}
