/** Pictures and sounds for the next question: chosen, pasted, dropped or recorded. */

import { change } from "./api.js";
import { find, icon, iconButton, make } from "./dom.js";
import { count, formatCount, formatSeconds } from "./format.js";
import { countTokens, readPicture, shrinkPicture } from "./picture.js";
import { encodeWav, Recorder, SAMPLE_RATE, toWav } from "./sound.js";

/** @typedef {import("./types.js").ServedModel} ServedModel */
/** @typedef {import("./types.js").Medium} Medium */
/**
 * @typedef {{kind: "image" | "audio", blob: Blob, url: string, bitmap?: ImageBitmap,
 *   seconds?: number, element: HTMLElement}} Attachment
 */

const BUDGET = "g4-image-tokens"; // in localStorage
const DEFAULT_BUDGET = "280"; // Gemma 4's own
const MOST = 16; // files of a question, a choice
const SENT_AS_IT_IS = /^audio\/(x-)?(wav|mpeg|mp3|flac)$/;

/** What is attached. `onChange` is called when there is more or less of it. */
export class Attachments {
  /**
   * @param {() => void} onChange
   * @param {(error: unknown) => void} onError
   */
  constructor(onChange, onError) {
    this.onChange = onChange;
    this.onError = onError;
    /** @type {Attachment[]} */
    this.items = [];
    /** @type {ServedModel | undefined} */
    this.model = undefined;
    this.isSwitching = false; // whether a recording is about to begin or to end
    this.list = find("attached");
    this.hint = find("composer-hint");
    this.input = make("input", { type: "file", multiple: true, hidden: true, change: () => {
      void this.addFiles([...(this.input.files ?? [])]);
      this.input.value = "";
    } });
    this.attach = iconButton("clip", "Attach pictures or sound", () => this.input.click());
    this.record = iconButton("mic", "Record sound", () => void this.toggleRecording());
    this.budget = make("select", { class: "budget", "aria-label": "Tokens of a picture", hidden: true,
      change: () => {
        localStorage.setItem(BUDGET, this.budget.value);
        this.update();
      } });
    this.meter = make("meter", { min: 0, max: 1, value: 0, hidden: true, "aria-label": "Level" });
    this.recorder = new Recorder((seconds, level) => this.showRecording(seconds, level),
      () => void this.toggleRecording());
    find("tools").append(this.input, this.attach, this.record, this.budget, this.meter);
    this.acceptDrops();
    this.describeModel(undefined);
  }

  /** @param {ServedModel | undefined} model */
  describeModel(model) {
    this.model = model;
    const reads = model?.modalities ?? [];
    const kinds = [reads.includes("image") ? "image/*" : "", reads.includes("audio") ? "audio/*" : ""];
    this.input.accept = kinds.filter(Boolean).join(",");
    this.attach.hidden = !this.input.accept;
    this.record.hidden = !reads.includes("audio") || !navigator.mediaDevices;
    const budgets = model?.image?.budgets ?? [];
    this.budget.replaceChildren(...budgets.map((n) =>
      make("option", { value: String(n) }, `up to ${formatCount(n)} tokens`)));
    const wanted = localStorage.getItem(BUDGET) ?? DEFAULT_BUDGET;
    this.budget.value = budgets.includes(Number(wanted)) ? wanted : String(budgets.at(-1) ?? "");
    this.update();
  }

  /** @param {File[]} files */
  async addFiles(files) {
    for (const file of files) {
      const kind = file.type.startsWith("image/") ? "image" : file.type.startsWith("audio/") ? "audio" : "";
      try {
        if (!kind) throw new Error(`${file.name} is no picture and no sound.`);
        if (!this.model?.modalities.includes(kind)) {
          throw new Error(`${this.model?.name ?? "The model"} does not read ${kind === "image" ? "pictures" : "sound"}.`);
        }
        if (this.items.length >= MOST) throw new Error(`A question has at most ${MOST} files.`);
        if (kind === "image") this.add({ kind, blob: file, bitmap: await readPicture(file) });
        else this.add({ kind, blob: SENT_AS_IT_IS.test(file.type) ? file : await toWav(file) });
      } catch (error) {
        this.onError(error);
      }
    }
  }

  /** @param {{kind: "image" | "audio", blob: Blob, bitmap?: ImageBitmap, seconds?: number}} content */
  add(content) {
    const url = URL.createObjectURL(content.blob);
    const view = content.kind === "image" ? make("img", { src: url, alt: "Attached picture" })
      : make("audio", { src: url, controls: true });
    const note = make("span", { class: "quiet" });
    const element = make("li", {}, view, note);
    const item = { ...content, url, element };
    element.append(iconButton("close", `Remove the ${content.kind === "image" ? "picture" : "sound"}`,
      () => this.remove(item)));
    this.items.push(item);
    this.list.append(element);
    this.update();
  }

  /** @param {Attachment} item */
  remove(item) {
    URL.revokeObjectURL(item.url);
    item.element.remove();
    this.items = this.items.filter((other) => other !== item);
    this.update();
    find("question").focus();
  }

  /**
   * Sends pictures, as small as the budget asks for, and sounds, and returns their names.
   *
   * @param {Attachment[]} items
   * @returns {Promise<Medium[]>}
   */
  async upload(items) {
    const names = [];
    for (const item of items) {
      const blob = item.bitmap && this.model?.image
        ? await shrinkPicture(item.bitmap, item.blob, this.model.image.pixels, Number(this.budget.value))
        : item.blob;
      names.push(await change("POST", "/media", blob));
    }
    return names;
  }

  update() {
    this.list.hidden = this.items.length === 0;
    const pictures = this.items.filter((item) => item.bitmap);
    this.budget.hidden = pictures.length === 0 || this.budget.options.length < 2;
    let total = 0;
    for (const item of this.items) {
      const note = /** @type {HTMLElement} */ (item.element.querySelector(".quiet"));
      if (item.bitmap && this.model?.image) {
        const n = countTokens(item.bitmap, this.model.image.pixels, Number(this.budget.value));
        total += n;
        note.textContent = count(n, "token");
      } else if (item.seconds) note.textContent = formatSeconds(item.seconds);
    }
    const context = this.model?.n_ctx || 0;
    const share = context ? `, ${Math.ceil((100 * total) / context)} % of the context` : "";
    this.hint.textContent = total ? `about ${count(total, "token")}${share}` : "";
    this.onChange();
  }

  // --- recording

  async toggleRecording() {
    if (this.isSwitching) return;
    this.isSwitching = true;
    const isStarting = !this.recorder.isRecording;
    try {
      if (isStarting) await this.recorder.start();
      else {
        const samples = await this.recorder.stop();
        const seconds = samples.length / SAMPLE_RATE;
        if (seconds) this.add({ kind: "audio", blob: encodeWav(samples), seconds });
      }
    } catch (error) {
      this.onError(error instanceof DOMException && error.name === "NotAllowedError"
        ? new Error("The browser does not let this page use the microphone.") : error);
    }
    this.isSwitching = false;
    const isRecording = this.recorder.isRecording;
    this.meter.hidden = !isRecording;
    this.record.classList.toggle("recording", isRecording);
    const label = isRecording ? "End the recording" : "Record sound";
    this.record.title = label;
    this.record.setAttribute("aria-label", label);
    this.record.replaceChildren(icon(isRecording ? "stop" : "mic"));
    if (!isRecording) this.update();
  }

  /**
   * @param {number} seconds
   * @param {number} level 0 to 1
   */
  showRecording(seconds, level) {
    this.meter.value = level;
    this.hint.textContent = `recording, ${formatSeconds(seconds)}`;
  }

  // --- paste and drop

  acceptDrops() {
    find("question").addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      void this.addFiles(files);
    });
    const target = find("composer");
    document.addEventListener("dragover", (event) => {
      if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
      event.preventDefault();
      target.classList.add("dropping");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) target.classList.remove("dropping");
    });
    document.addEventListener("drop", (event) => {
      target.classList.remove("dropping");
      const files = [...(event.dataTransfer?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      void this.addFiles(files);
    });
  }
}
