/** Requests to the server: its token, the key of the user, errors, and events of an answer. */

/** @typedef {import("./types.js").AnswerEvent} AnswerEvent */

const KEY = "g4-key";
/** @type {Promise<string> | null} */
let token = null;
/** @type {() => Promise<string>} */
let askForKey = () => Promise.reject(new Error("a key is needed"));

/** A request that the server refused: its sentence, the status and the name of the error. */
export class RequestError extends Error {
  /**
   * @param {string} message
   * @param {number} status 0: the server does not answer
   * @param {string} code
   */
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * Sets what asks the user for the API key.
 *
 * @param {() => Promise<string>} ask
 */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/**
 * Returns the answer to a GET request.
 *
 * @param {string} path below /page/api
 * @returns {Promise<any>}
 */
export async function read(path) {
  return (await send("GET", path)).json();
}

/**
 * Sends a request that changes something and returns its answer.
 *
 * @param {"POST" | "DELETE"} method
 * @param {string} path
 * @param {any} [body] sent as JSON; a Blob as it is
 * @returns {Promise<any>}
 */
export async function change(method, path, body = {}) {
  return (await send(method, path, body)).json();
}

/**
 * Returns a file below /page/api.
 *
 * @param {string} path
 */
export async function readBlob(path) {
  return (await send("GET", path)).blob();
}

/** Returns what the server says first; the token of later requests comes with it. */
export async function start() {
  const answer = await read("/start");
  token = Promise.resolve(answer.token);
  return answer;
}

/**
 * Yields the events of an answer that come after `seen`, until its end. Where the connection ends
 * before, it raises RequestError with status 0.
 *
 * @param {number} turn
 * @param {AbortSignal} signal
 * @param {{after: string}} seen is kept up to date
 * @returns {AsyncGenerator<AnswerEvent>}
 */
export async function* watchAnswer(turn, signal, seen) {
  const response = await send("GET", `/answers/${turn}?after=${seen.after}`, undefined, signal);
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
      const events = text.split("\n\n");
      text = events.pop() ?? "";
      for (const event of events) {
        const data = /^data: (.*)$/m.exec(event);
        if (!data) continue;
        seen.after = /^id: (.*)$/m.exec(event)?.[1] ?? seen.after;
        yield JSON.parse(data[1]);
      }
    }
  } catch (error) {
    if (signal.aborted) throw error;
  }
  throw new RequestError("the connection ended", 0, "");
}

/**
 * @param {string} method
 * @param {string} path
 * @param {any} [body]
 * @param {AbortSignal} [signal]
 * @returns {Promise<Response>}
 */
async function send(method, path, body, signal) {
  for (let attempt = 0; ; attempt++) {
    const response = await sendOnce(method, path, body, signal);
    if (response.ok) return response;
    const error = await explain(response);
    if (error.status === 401 && attempt < 20) { // a wrong key is asked for again
      localStorage.setItem(KEY, await askForKey());
    } else if (error.code === "page-token" && attempt < 2) {
      token = null; // the server was started again
    } else {
      throw error;
    }
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {any} body
 * @param {AbortSignal} [signal]
 */
async function sendOnce(method, path, body, signal) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (method !== "GET") {
    token ??= read("/start").then((answer) => answer.token);
    headers["X-G4-Token"] = await token.catch((error) => {
      token = null;
      throw error;
    });
  }
  const key = localStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  const isBlob = body instanceof Blob;
  if (body !== undefined) {
    headers["Content-Type"] = isBlob ? body.type || "application/octet-stream" : "application/json";
  }
  try {
    return await fetch(`/page/api${path}`, {
      method,
      headers,
      signal,
      body: body === undefined || isBlob ? body : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new RequestError("The server does not answer.", 0, "");
  }
}

/** @param {Response} response */
async function explain(response) {
  const body = await response.json().catch(() => ({}));
  const message = body?.error?.message ?? `The server answered with status ${response.status}.`;
  return new RequestError(message, response.status, body?.error?.code ?? "");
}
