/** Elements of the page: find them, make them, and the one way by which HTML comes into it. */

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * The policy that turns a string into HTML (Trusted Types). Only what the server rendered and
 * cleaned is passed to it.
 *
 * @type {{createHTML: (html: string) => any}}
 */
const policy = /** @type {any} */ (window).trustedTypes?.createPolicy("g4", {
  createHTML: (/** @type {string} */ html) => html,
}) ?? { createHTML: (html) => html };

/**
 * Returns the element of the page with an id; it must be there.
 *
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
export function find(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`no element ${id}`);
  return /** @type {T} */ (element);
}

/**
 * Replaces the content of an element by HTML that the server has cleaned.
 *
 * @param {Element} element
 * @param {string} html
 */
export function setCleanHtml(element, html) {
  element.innerHTML = policy.createHTML(html);
}

/**
 * Returns a new element. Properties that are functions listen to events ("click"); `class`, `aria-*`,
 * `role` and `data-*` are attributes, others properties.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (/^(class|role|for|aria-|data-)/.test(name)) element.setAttribute(name, String(value));
    else /** @type {any} */ (element)[name] = value;
  }
  for (const child of children) if (child) element.append(child);
  return element;
}

/**
 * Returns an icon of index.html.
 *
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/**
 * Returns a button with an icon; its label is read aloud and shown by the mouse.
 *
 * @param {string} name of the icon
 * @param {string} label
 * @param {(event: Event) => void} onClick
 * @param {string} [className]
 */
export function iconButton(name, label, onClick, className = "icon") {
  return make("button", { class: className, type: "button", title: label, "aria-label": label,
    click: onClick }, icon(name));
}

/**
 * Lets screen readers say something.
 *
 * @param {string} text
 */
export function announce(text) {
  find("announcer").textContent = text;
}

/**
 * Copies text and shows on the button that it was.
 *
 * @param {HTMLElement} button
 * @param {string} text
 */
export async function copyText(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // pages of another address than localhost have no clipboard without https
    const area = make("textarea", { value: text, class: "unseen" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const use = button.querySelector("use");
  const before = use?.getAttribute("href") ?? "";
  if (before === "#i-check") return;
  use?.setAttribute("href", "#i-check");
  announce("Copied");
  setTimeout(() => use?.setAttribute("href", before), 1500);
}
