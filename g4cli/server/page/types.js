/**
 * The values that the server sends; see g4cli/server/page_routes/turns.py, answers.py and models.py.
 *
 * Times (`updated`, `created`) are in Unix seconds; names that end with `_s` are in seconds. Of a
 * Turn, `finish` is Reply.finish_reason, "error", or "partial" while it is written; `siblings` are
 * the ids of all turns with the same parent, itself included.
 *
 * @typedef {{id: number, title: string, updated: number, model: string, excerpt: string,
 *   running: boolean}} Listed
 * @typedef {{block: number, html?: string, joined?: boolean, text?: string}} Change
 * @typedef {{unit: string, period: number, onset: number, covered: number, kind: string,
 *   command?: string}} Loop
 * @typedef {{prompt_tokens?: number, reused_tokens?: number, completion_tokens?: number,
 *   prompt_s?: number, decode_s?: number, thought_s?: number, dropped_messages?: number,
 *   context_full?: boolean, loop?: Loop, error?: {message: string, hint: string}}} Figures
 * @typedef {{kind: "image" | "audio", name: string}} Medium
 * @typedef {{id: number, parent: number | null, role: string, text: string, thought: string,
 *   blocks: Change[], calls: string[], media: Medium[], model: string, finish: string,
 *   running: boolean, settings: Record<string, any>, figures: Figures, created: number,
 *   siblings: number[]}} Turn
 * @typedef {{id: number, title: string, system: string, turns: Turn[]}} Conversation
 * @typedef {{text: string, thought: string, calls: string[], model: string, finish: string,
 *   figures: Figures}} AnswerEnd
 * @typedef {{state: string, thought: string, thought_s: number, changes: Change[],
 *   prompt_tokens?: number, end?: AnswerEnd}} AnswerEvent
 * @typedef {{temp: number, top_p: number, top_k: number, min_p: number, repeat_penalty: number,
 *   seed: number | null}} Sampling
 * @typedef {{name: string, aliases: string[], type: string, nbytes: number, loaded: boolean,
 *   n_ctx: number, n_ctx_chosen: number, n_ctx_train: number, n_slots: number, memory_bytes: number,
 *   modalities: string[], image: {pixels: number, budgets: number[]} | null, sampling: Sampling, max_tokens: number}} ServedModel
 */
export {};
