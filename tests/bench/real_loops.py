"""Let a small model talk until it loops, and keep its answers as token ids and probabilities.

    python tests/bench/real_loops.py MODEL.gguf FOLDER [--answers 48] [--minutes 40] [--tokens 900]
    python tests/bench/real_loops.py MODEL.gguf FOLDER --longer 2000
    python tests/bench/real_loops.py MODEL.gguf FOLDER --read 37

Each call adds answers to FOLDER/MODEL.jsonl until every prompt has one at each temperature; without
--answers it makes all that are missing, with --kind those to prompts of one kind. After --minutes
no new one begins. One line is one answer: model, kind, mode, prompt, temperature, ended ("end",
"length", "stuck"), tokens, and p, the probability that the model itself gave to each chosen token
(at temperature 1, before top-k and top-p). End tokens end an answer. An answer that brings no new
8-gram for 450 tokens is "stuck": more of it would tell nothing new. Sampling is g4's: top-k 64,
top-p 0.95. The same llama.cpp on the same CPU makes the same answers. An F32 file is the fastest.

--longer N goes on, up to N tokens, with the answers that were cut off and whose last 150 tokens
bring nothing new if a number counts as one token: counters, which the detector watches for longest.
They take the place of the shorter ones.

--read SEED writes FOLDER/MODEL-read.jsonl instead: the texts of bench_loops.py that repeat much and
are no loops, of this seed, as if the model had written them, with the probabilities that it gives
to their tokens (mode "read", ended "end"). Texts without an exact repetition of 64 tokens are left
out: no rule that looks at probabilities while an answer repeats itself can stop them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from bench_real_loops import DOUBTFUL, Vocabulary, collapse_numbers, find_stale
from loop_hard import hard_documents
from loop_hard_more import more_hard_documents
from numpy.typing import NDArray
from real_loop_prompts import Prompt, list_prompts

from g4cli.runtime.llama.library import load_llama

TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
TOP_K, TOP_P = 64, 0.95
STUCK = 450
N_PARALLEL = 48
N_BATCH = 512
READ_PER_KIND, READ_TOKENS = 3, 1000
_CHAT = {
    "llama": (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
        "{}",
    ),
    "gemma4": ("<bos><|turn>user\n{}<turn|>\n<|turn>model\n", "<bos>{}"),
}


class Answer:
    """One answer while it is made."""

    def __init__(self, prompt: Prompt, temperature: float, number: int, feed: list[int]) -> None:
        self.prompt, self.temperature, self.feed = prompt, temperature, feed
        self.n_past, self.rng = 0, np.random.default_rng(number)
        self.tokens: list[int] = []
        self.p: list[float] = []
        self.ended = ""
        self._grams: set[tuple[int, ...]] = set()
        self._newest = 0

    @property
    def row(self) -> dict[str, Any]:
        """The answer as a line of the data set, but for the model's name."""
        kind, mode, text = self.prompt
        row = {"kind": kind, "mode": mode, "prompt": text, "temperature": self.temperature}
        return row | {"ended": self.ended, "tokens": self.tokens, "p": self.p}

    def resume(self, tokens: list[int], p: list[float]) -> None:
        """Continue after the tokens of a shorter answer."""
        self.feed = [*self.feed, *tokens]
        self.tokens, self.p = list(tokens), list(p)
        for end in range(1, len(tokens) + 1):
            self._note_gram(tuple(tokens[max(0, end - 8) : end]), end)

    def _note_gram(self, gram: tuple[int, ...], place: int) -> None:
        if gram not in self._grams:
            self._grams.add(gram)
            self._newest = place

    def take_logits(self, logits: NDArray[np.float32], ends: set[int], longest: int) -> None:
        """Choose the next token; set `ended` when it is the last."""
        best = np.argpartition(logits, -TOP_K)[-TOP_K:]
        best = best[np.argsort(-logits[best], kind="stable")]
        highest = float(logits[best[0]])
        total = float(np.exp(logits - highest, dtype=np.float32).sum(dtype=np.float64))
        shares = np.exp(logits[best].astype(np.float64) - highest) / total
        place = 0
        if self.temperature:
            keep = int(np.searchsorted(np.cumsum(shares / shares.sum()), TOP_P)) + 1
            weights = shares[:keep] ** (1 / self.temperature)
            place = int(self.rng.choice(len(weights), p=weights / weights.sum()))
        token = int(best[place])
        if token in ends:
            self.ended = "end"
            return
        self.tokens.append(token)
        self.p.append(float(f"{shares[place]:.4g}"))
        self.feed = [token]
        self._note_gram(tuple(self.tokens[-8:]), len(self.tokens))
        if len(self.tokens) - self._newest >= STUCK:
            self.ended = "stuck"
        elif len(self.tokens) >= longest:
            self.ended = "length"


class Model:
    """A model with room for N_PARALLEL answers of `longest` tokens at once."""

    def __init__(self, path: Path, longest: int, threads: int) -> None:
        self.api = api = load_llama()
        params = api.llama_model_default_params()
        params.use_extra_bufts = False
        self.model = api.llama_model_load_from_file(str(path).encode(), params)
        self.vocab = api.llama_model_get_vocab(self.model)
        self.n_vocab = api.llama_vocab_n_tokens(self.vocab)
        context = api.llama_context_default_params()
        context.n_ctx = N_PARALLEL * (longest + 256)
        context.n_batch = context.n_ubatch = N_BATCH
        context.n_seq_max = N_PARALLEL
        context.n_threads = context.n_threads_batch = threads
        context.flash_attn_type = 0  # on a CPU, and with one token each, it takes longer
        self.context = api.llama_init_from_model(self.model, context)
        self.batch = api.llama_batch_init(N_BATCH, 0, 1)
        self.ends = {t for t in range(self.n_vocab) if api.llama_vocab_is_eog(self.vocab, t)}
        buffer = (api.ctypes.c_char * 64)()
        api.llama_model_meta_val_str(self.model, b"general.architecture", buffer, 64)
        self.architecture = bytes(buffer).split(b"\0")[0].decode()

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return the ids of a prompt in the model's own format."""
        chat, plain = _CHAT[self.architecture]
        data = (chat if prompt.mode == "chat" else plain).format(prompt.text).encode()
        ids = (self.api.llama_token * (len(data) + 8))()
        n = self.api.llama_tokenize(self.vocab, data, len(data), ids, len(ids), False, True)
        return list(ids[:n])

    def decode(self, answers: dict[int, Answer]) -> dict[int, NDArray[np.float32]]:
        """Run one batch with the answers' next tokens; return the logits of those that are ready.

        What does not fit into the batch any more waits for the next one.
        """
        n, rows = 0, {}
        # In order: llama.cpp puts only sequences with consecutive numbers into one batch.
        for slot, answer in sorted(answers.items()):
            piece, rest = answer.feed[: N_BATCH - n], answer.feed[N_BATCH - n :]
            for i, token in enumerate(piece):
                last = i == len(piece) - 1 and not rest
                self.batch.token[n], self.batch.pos[n] = token, answer.n_past
                self.batch.n_seq_id[n], self.batch.seq_id[n][0] = 1, slot
                self.batch.logits[n] = last
                if last:
                    rows[slot] = n
                answer.n_past += 1
                n += 1
            answer.feed = rest
        self.batch.n_tokens = n
        if self.api.llama_decode(self.context, self.batch):
            raise SystemExit("llama_decode failed")
        shape = (self.n_vocab,)
        return {
            slot: np.ctypeslib.as_array(self.api.llama_get_logits_ith(self.context, row), shape)
            for slot, row in rows.items()
        }

    def read_text(self, tokens: list[int]) -> list[float]:
        """Return the probability of each token after those before it; of the first one, 0."""
        probabilities, batch = [0.0], self.batch
        for start in range(0, len(tokens), N_BATCH):
            piece = tokens[start : start + N_BATCH]
            for i, token in enumerate(piece):
                batch.token[i], batch.pos[i] = token, start + i
                batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, True
            batch.n_tokens = len(piece)
            if self.api.llama_decode(self.context, batch):
                raise SystemExit("llama_decode failed")
            for i, following in enumerate(tokens[start + 1 : start + len(piece) + 1]):
                row = self.api.llama_get_logits_ith(self.context, i)
                logits = np.ctypeslib.as_array(row, (self.n_vocab,))
                shares = np.exp(logits - logits.max(), dtype=np.float32)
                probabilities.append(float(f"{shares[following] / shares.sum():.4g}"))
        self.forget(0)
        return probabilities

    def forget(self, slot: int) -> None:
        """Empty the memory of one answer."""
        memory = self.api.llama_get_memory(self.context)
        self.api.llama_memory_seq_rm(memory, slot, -1, -1)


def list_answers(model: Model, done: set[tuple[str, str, float]]) -> Iterator[Answer]:
    """Yield the answers that are still to be made: each prompt at one temperature first."""
    prompts, n = list_prompts(), len(TEMPERATURES)
    for number in range(n * len(prompts)):
        index = number % len(prompts)
        prompt, temperature = prompts[index], TEMPERATURES[(index + number // len(prompts)) % n]
        if (prompt.mode, prompt.text, temperature) not in done:
            yield Answer(prompt, temperature, number, model.tokenize(prompt))


def has_repetition(tokens: list[int], least: int = 64) -> bool:
    """Return whether `least` tokens in a row equal those one period before, for any period."""
    for period in range(1, min(256, len(tokens) // 2)):
        run = 0
        for a, b in zip(tokens, tokens[period:], strict=False):
            run = run + 1 if a == b else 0
            if run >= least:
                return True
    return False


def read_hard_texts(model: Model, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each text that repeats much and is no loop."""
    texts = hard_documents(seed, READ_PER_KIND) + more_hard_documents(seed, READ_PER_KIND)
    for kind, text in texts:
        tokens = model.tokenize(Prompt(kind, "continue", text))[:READ_TOKENS]
        if has_repetition(tokens):
            row = {"kind": kind, "mode": "read", "prompt": "", "temperature": 1.0, "ended": "end"}
            yield row | {"tokens": tokens, "p": model.read_text(tokens)}


def generate_answers(
    model: Model, waiting: list[Answer], longest: int, seconds: float
) -> Iterator[Answer]:
    """Yield the answers as they end, up to N_PARALLEL of them made at once.

    After `seconds` no new one begins.
    """
    running: dict[int, Answer] = {}
    until = time.monotonic() + seconds
    while waiting or running:
        if time.monotonic() > until:
            waiting.clear()
        for slot in range(N_PARALLEL):
            if slot not in running and waiting:
                running[slot] = waiting.pop(0)
        for slot, logits in model.decode(running).items():
            answer = running[slot]
            answer.take_logits(logits, model.ends, longest)
            if answer.ended:
                del running[slot]
                model.forget(slot)
                yield answer


def is_counter(row: dict[str, Any], digits: Mapping[int, int]) -> bool:
    """Return whether an answer was cut off while it counted, or repeated itself with changes."""
    collapsed = collapse_numbers(row["tokens"], digits)
    stale = len(row["tokens"]) - find_stale(collapsed)[0]
    return row["ended"] == "length" and stale >= DOUBTFUL


def continue_counters(
    model: Model, path: Path, rows: list[dict[str, Any]], longest: int
) -> Iterator[dict[str, Any]]:
    """Yield the longer answers that take the place of those of `rows` that were cut off."""
    digits = Vocabulary(path).digits
    waiting = []
    for number, row in enumerate(rows):
        if len(row["tokens"]) < longest and is_counter(row, digits):
            prompt = Prompt(row["kind"], row["mode"], row["prompt"])
            answer = Answer(prompt, row["temperature"], number, model.tokenize(prompt))
            answer.resume(row["tokens"], row["p"])
            waiting.append(answer)
    for answer in generate_answers(model, waiting, longest, float("inf")):
        yield answer.row


def main() -> None:
    """Add answers to the data set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--answers", type=int, default=sys.maxsize)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--kind", help="prompts of this kind only, such as counting")
    parser.add_argument("--longer", type=int, metavar="TOKENS")
    parser.add_argument("--read", type=int, metavar="SEED")
    parser.add_argument("--tokens", type=int, default=900)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    name = args.model.stem
    if args.read is not None:
        model = Model(args.model, READ_TOKENS, args.threads)
        with (args.folder / f"{name}-read.jsonl").open("w", encoding="utf-8") as file:
            for row in read_hard_texts(model, args.read):
                file.write(json.dumps({"model": name, **row}) + "\n")
        return
    target = args.folder / f"{name}.jsonl"
    target.touch()
    rows: list[dict[str, Any]] = [json.loads(line) for line in target.open(encoding="utf-8")]
    model = Model(args.model, args.longer or args.tokens, args.threads)
    if args.longer:
        longer = {}
        for row in continue_counters(model, args.model, rows, args.longer):
            longer[row["mode"], row["prompt"], row["temperature"]] = {"model": name, **row}
        rows = [longer.get((r["mode"], r["prompt"], r["temperature"]), r) for r in rows]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        target.write_text(text, encoding="utf-8")
        print(f"{len(longer)} answers are longer now")
        return
    done = {(row["mode"], row["prompt"], row["temperature"]) for row in rows}
    waiting = [a for a in list_answers(model, done) if args.kind in (None, a.prompt.kind)]
    waiting = waiting[: args.answers]
    started, n = time.monotonic(), 0
    with target.open("a", encoding="utf-8") as file:
        for answer in generate_answers(model, waiting, args.tokens, 60 * args.minutes):
            n += len(answer.tokens)
            file.write(json.dumps({"model": name, **answer.row}, ensure_ascii=False) + "\n")
            file.flush()
    took = time.monotonic() - started
    print(
        f"{len(done)} answers before; {n:,} tokens more in {took:.0f} s ({n / took:.0f} tokens/s)"
    )


if __name__ == "__main__":
    main()
