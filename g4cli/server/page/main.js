/** Starts the page: makes its parts and connects them. */

import { onKeyNeeded, read, RequestError, start } from "./api.js";
import { Attachments } from "./attachments.js";
import { Composer } from "./composer.js";
import { OpenConversation } from "./conversation.js";
import { askForKey, askToConfirm, showKeys } from "./dialog.js";
import { find, make } from "./dom.js";
import { showDrawing } from "./drawing.js";
import { drawGreeting } from "./greeting.js";
import { ModelDialog } from "./models.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Thread } from "./thread.js";

/** @typedef {import("./types.js").ServedModel} ServedModel */

const MODEL = "g4-model"; // in localStorage
const RETRY_MS = 1000; // between two looks whether the server answers again
/** @type {ServedModel[]} */
let models = [];
let hasModel = true; // until the server has said which there are
const modelChoice = /** @type {HTMLSelectElement} */ (find("model"));

onKeyNeeded(askForKey);
const settings = new Settings((system) => void conversation.setSystem(system).catch(showError),
  () => void readModels().catch(showError));
/** @type {Thread} */
const thread = new Thread({
  again: (turn) => void attempt(conversation.answerAgain(turn)),
  edit: (turn, text) => void attempt(conversation.ask(text, turn.media, turn.parent)),
  show: (turn) => void attempt(conversation.showBranch(turn)),
  remove: (turn) => void confirmDeletion(turn),
  loadMedia: (turn, number) => conversation.loadMedia(turn, number),
  onCode: (parts, isLast) => void showDrawing(parts, isLast).then(() => thread.followEnd()),
});
const sidebar = new Sidebar(open, showError);
/** @type {OpenConversation} */
const conversation = new OpenConversation({
  thread,
  greeting: () => drawGreeting(hasModel, showModels),
  settings: () => ({ ...settings.read(), model: modelChoice.value }),
  onChange: () => sidebar.mark(conversation.id),
  onDeleted: () => open(null),
  onAnswering: (isAnswering) => composer.setAnswering(isAnswering),
  onError: showError,
});
const composer = new Composer(send, () => void attempt(conversation.stop()));
const attachments = new Attachments(() => composer.update(), showError);
composer.hasMore = () => attachments.items.length > 0;

/** @param {string} text */
async function send(text) {
  const items = [...attachments.items]; // more may be added while these are sent
  const isTaken = await attempt(conversation.ask(text, attachments.upload(items)));
  if (isTaken) for (const item of items) attachments.remove(item);
  return isTaken;
}

/**
 * Returns whether an action worked; its error is shown.
 *
 * @param {Promise<unknown>} action
 */
async function attempt(action) {
  try {
    await action;
    showError(null);
    return true;
  } catch (error) {
    showError(error);
    return false;
  }
}

/**
 * Deletes a turn if the user confirms.
 *
 * @param {import("./types.js").Turn} turn
 */
async function confirmDeletion(turn) {
  const isQuestion = turn.role === "user";
  const others = turn.siblings.length > 1 ? "Its other versions stay." : isQuestion ? "" : "The question stays.";
  const text = `${isQuestion ? "The question, its answers" : "The answer"} and all that follows are deleted, ` +
    `also for g4 chat. ${others}`;
  if (!await askToConfirm(`Delete the ${isQuestion ? "question" : "answer"}?`, text, "Delete")) return;
  await attempt(conversation.deleteTurn(turn).then((isLeft) => isLeft || open(null)));
  composer.focus();
}

/**
 * Opens a conversation and makes it the address of the page.
 *
 * @param {number | null} id
 */
function open(id) {
  history.replaceState(null, "", id === null ? location.pathname : `#${id}`);
  void conversation.open(id).then(() => {
    settings.system.value = conversation.system;
    sidebar.mark(id);
    composer.focus();
  });
}

/** @param {unknown} error null: none any more */
function showError(error) {
  if (error instanceof RequestError && error.status === 0) {
    waitForServer();
    return;
  }
  const notice = find("notice");
  notice.hidden = error === null;
  if (error === null) return;
  const text = error instanceof Error ? error.message : String(error);
  showNotice(error instanceof TypeError ? `A bug in the page: ${text}` : text);
}

/** @param {string} text */
function showNotice(text) {
  const notice = find("notice");
  notice.hidden = false;
  notice.replaceChildren(make("span", {}, text),
    make("button", { class: "plain", type: "button", click: () => (notice.hidden = true) }, "Close"));
}

let isWaiting = false;

/** Says that the server does not answer, until it does; then all is read again. */
function waitForServer() {
  if (isWaiting) return;
  isWaiting = true;
  showNotice("The server does not answer; trying again.");
  const tryAgain = () => start().then(() => {
    isWaiting = false;
    showError(null);
    void conversation.reload();
    void sidebar.refresh();
    void readModels().catch(showError);
  }, () => setTimeout(tryAgain, RETRY_MS));
  setTimeout(tryAgain, RETRY_MS);
}

/** Reads the models of the server. */
async function readModels() {
  models = (await read("/models")).models;
  const wanted = modelChoice.value || localStorage.getItem(MODEL) || "";
  modelChoice.replaceChildren(...models.map((model) => make("option", { value: model.name }, model.name)));
  if (models.some((model) => model.name === wanted)) modelChoice.value = wanted;
  modelChoice.disabled = models.length === 0;
  if (!models.length) modelChoice.append(make("option", { value: "" }, "No model yet"));
  if (hasModel !== models.length > 0) {
    hasModel = models.length > 0;
    conversation.showGreeting();
  }
  describeModel();
}

function showModels() {
  sidebar.show(false);
  new ModelDialog(() => void readModels().catch(showError));
}

function describeModel() {
  const model = models.find((one) => one.name === modelChoice.value);
  settings.describeModel(model);
  attachments.describeModel(model);
}

modelChoice.addEventListener("change", () => {
  localStorage.setItem(MODEL, modelChoice.value);
  describeModel();
});
find("show-models").addEventListener("click", showModels);
find("show-keys").addEventListener("click", () => {
  sidebar.show(false);
  showKeys();
});
find("toggle-settings").addEventListener("click", () => void readModels().catch(showError));
window.addEventListener("hashchange", () => open(readAddress()));
window.addEventListener("focus", () => void readModels().catch(() => undefined));
document.addEventListener("keydown", (event) => {
  const isCommand = event.ctrlKey || event.metaKey;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && conversation.running) void attempt(conversation.stop());
  else if (event.key === "Escape" && !settings.panel.hidden) settings.toggle(false);
  else if (isCommand && event.shiftKey && event.key.toLowerCase() === "o") open(null);
  else if (isCommand && event.key === "k") {
    sidebar.show(true);
    sidebar.search.focus();
  } else if (isCommand && event.key === ",") settings.toggle();
  else if (isCommand && event.key === "/") showKeys();
  else if (event.key === "ArrowUp" && event.target === composer.area && !composer.area.value) editLast();
  else return;
  event.preventDefault();
});

function editLast() {
  const last = conversation.turns.findLast((turn) => turn.role === "user");
  if (last && !conversation.running) thread.edit(last);
}

/** Returns the conversation that the address of the page names. */
function readAddress() {
  const id = Number(location.hash.slice(1));
  return Number.isSafeInteger(id) && id > 0 ? id : null;
}

async function begin() {
  composer.focus();
  conversation.showGreeting();
  await start();
  open(readAddress());
  await readModels();
}

void begin().catch(showError);
