"""Perplexity of a model on given answers, and KL divergence from another file of that network.

Each conversation is evaluated in batches, with logits only for the positions that predict the
scored answer. With two models, both evaluate the same batch before the next one, so that only one
batch of logits per model is in memory.

What a conversation has in common with the one before it is not evaluated again: a system prompt, a
document, the earlier turns of the same conversation. Where the sliding window has moved past the
place where they part, a checkpoint brings it back; these places are known beforehand
(`plan_readings`). They are borders of batches, so that every batch is what it is without this.
Nothing comes from the disk: a measurement must not depend on what was asked before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import BadFile
from g4cli.core.ggml import round_up
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_command
from g4cli.quant.scores import Score, score_predictions
from g4cli.runtime.engine.batch import Batch
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.llama_engine import CHECKPOINT_BYTES, LlamaEngine, open_engine
from g4cli.runtime.engine.options import ContextOptions
from g4cli.runtime.llama.library import load_llama
from g4cli.runtime.measure.calibration_text import Conversation
from g4cli.runtime.measure.document import Document, tokenize_conversations
from g4cli.runtime.measure.eval_text import MAX_CTX
from g4cli.runtime.measure.messages import RunEvaluation
from g4cli.runtime.measure.reports import Evaluation, TellOpening, ignore_opening

# Tokens decoded together: each has a row of logits, 1 MiB with Gemma's vocabulary.
_BATCH: Final = 64
# Rows scored together: their float64 copies take several MiB each.
_ROWS: Final = 8
_CTX_STEP: Final = 256  # llama.cpp makes caches of whole steps (GGML_PAD in llama-context.cpp)


@dataclass(frozen=True, slots=True)
class Reading:
    """How a document is evaluated: its first `begin` tokens are in the KV cache already.

    They are those of the document before it. `branches`: lengths of the prefixes that later
    documents share with it; after as many tokens a checkpoint of the window is made.
    """

    begin: int
    branches: frozenset[int]


def evaluate_model(
    request: RunEvaluation,
    *,
    progress: Progress = no_progress,
    opening: TellOpening = ignore_opening,
) -> Evaluation:
    """Return how well the model predicts the last turn of each conversation.

    With `request.against`, a second model is loaded too, and both evaluate the same tokens.
    Conversations are truncated to 8192 tokens. `opening` is told which file is loaded. Raises
    BadFile if the vocabularies differ or a model is damaged, and what loading raises.
    """
    path, against = request.path, request.against
    with ExitStack() as stack:

        def open_model(file: Path, n_ctx: int) -> LlamaEngine:
            opening(file)
            context = _context_options(n_ctx, request.n_threads)
            return stack.enter_context(
                open_engine(file, model_options=request.model, context_options=context)
            )

        engine = open_model(path, _CTX_STEP)
        engines = [engine]
        conversations = map(Conversation, request.conversations)
        whole = tokenize_conversations(engine.model, engine.prompts, conversations)
        documents = [Document(d.tokens[:MAX_CTX], d.first) for d in whole if d.first < MAX_CTX]
        if not documents:
            raise BadFile(
                f"every prompt is longer than {MAX_CTX:,} tokens: no answer is left to score"
            )
        # The first context only served to tokenize; the longest document gives the size needed.
        longest = max(len(d.tokens) for d in documents)
        n_ctx = round_up(longest, _CTX_STEP)
        engine.close_context()
        context_options = _context_options(n_ctx, request.n_threads)
        engine.context = Context(engine.model, context_options, engine.interrupt)
        if against:
            engines.append(open_model(against, n_ctx))
            if _sample_vocabulary(engine) != _sample_vocabulary(engines[1]):
                raise BadFile(f"{path} and {against} have different vocabularies")
        opening(None)
        counter = _TokenCounter(progress, len(engines) * sum(len(d.tokens) - 1 for d in documents))
        readers = [_Reader(engine, counter) for engine in engines]
        scores = [
            _score_document(readers, document, reading)
            for document, reading in zip(documents, plan_readings(documents), strict=True)
        ]
    return Evaluation(
        n_documents=len(documents),
        n_exact=sum(score.n_best == score.n for score in scores),
        n_cut=sum(d.first < MAX_CTX < len(d.tokens) for d in whole),
        n_skipped=len(whole) - len(documents),
        score=sum(scores, Score()),
    )


class _TokenCounter:
    """Counts decoded tokens, of all models together, and reports them as progress."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add_tokens(self, n_tokens: int) -> None:
        self._done += n_tokens
        self._progress(self._done, self._total, "evaluate")


def _context_options(n_ctx: int, n_threads: int) -> ContextOptions:
    return ContextOptions(n_ctx, n_threads=n_threads, n_batch=_BATCH, n_outputs=_BATCH)


def _sample_vocabulary(engine: LlamaEngine) -> tuple[int, int, bytes]:
    """Return enough of a vocabulary to tell it from another: size, BOS and a few pieces."""
    last, bos, line_feed = engine.model.n_vocab - 1, 2, 107  # Gemma's ids
    return (
        engine.model.n_vocab,
        engine.model.bos,
        b"".join(map(engine.model.piece, (bos, line_feed, last // 2, last))),
    )


def plan_readings(documents: Sequence[Document]) -> list[Reading]:
    """Return how each document is evaluated after the one before it.

    From the last to the first: a document keeps the branches of those after it that lie within the
    prefix that it hands on.
    """
    shared = [0, *map(_count_shared, documents[:-1], documents[1:]), 0]  # with the one before
    readings: list[Reading] = []
    branches: frozenset[int] = frozenset()
    for index in reversed(range(len(documents))):
        handed_on = shared[index + 1]
        branches = frozenset(n for n in {*branches, handed_on} if 0 < n <= handed_on)
        readings.append(Reading(shared[index], branches))
    return readings[::-1]


def _count_shared(document: Document, following: Document) -> int:
    """Return how many tokens of `following` are there after `document`, whole batches of them."""
    # The batches that predict its answer are evaluated in any case, for their logits.
    most = min(len(document.tokens), following.first) - 1
    pairs = zip(document.tokens[:most], following.tokens[:most], strict=True)
    shared = next((n for n, (one, other) in enumerate(pairs) if one != other), most)
    return shared // _BATCH * _BATCH


def _score_document(readers: Sequence[_Reader], document: Document, reading: Reading) -> Score:
    """Return the score of the answer of `document`.

    `readers`: that of the model, and that of the model to compare with, if there is one. Raises
    BadFile if a model gives NaN.
    """
    total = Score()
    streams = [reader.iter_logits(document, reading) for reader in readers]
    for parts in zip(*streams, strict=True):
        position, logits = parts[0]
        base = parts[1][1] if len(parts) > 1 else None
        for row in range(0, len(logits), _ROWS):
            stop = min(row + _ROWS, len(logits))
            targets = np.array(document.tokens[position + 1 + row : position + 1 + stop], np.int64)
            total += score_predictions(
                logits[row:stop], targets, None if base is None else base[row:stop]
            )
    for reader, nll in zip(readers, (total.nll, total.base_nll), strict=False):
        if not math.isfinite(nll):
            raise BadFile(
                f"{reader.path} gives NaN or infinite scores: the model is damaged",
                hint=shell_command("g4", "doctor", reader.path),
            )
    return total


class _Reader:
    """Evaluates the documents one after the other with one of the models."""

    def __init__(self, engine: LlamaEngine, counter: _TokenCounter) -> None:
        self._engine, self._counter = engine, counter
        self.path = engine.model.path
        self._batch = Batch(_BATCH, 1)
        self._windows: dict[int, bytes] = {}  # checkpoints at branches, by the tokens before them

    def iter_logits(
        self, document: Document, reading: Reading
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first position, logits) per batch, for the positions that predict the answer.

        `logits` has shape (positions, vocabulary) and is llama.cpp's own buffer, which the next
        batch overwrites.
        """
        c: Any = load_llama()
        context, tokens = self._engine.context, document.tokens[:-1]  # the last predicts nothing
        begin = self._return_to(reading.begin)
        self._counter.add_tokens(begin)
        for start in range(begin, len(tokens), _BATCH):
            if start in reading.branches and start not in self._windows:
                self._save_window(start)
            self._batch.clear()
            end = min(start + _BATCH, len(tokens))
            for position in range(start, end):
                with_logits = position >= document.first - 1
                self._batch.add_tokens((tokens[position],), position, 0, with_logits=with_logits)
            context.decode_batch(self._batch.c_batch)
            self._counter.add_tokens(end - start)
            first = max(start, document.first - 1)
            if first < end:
                pointer = c.llama_get_logits(context.handle)
                shape = (end - first, self._engine.model.n_vocab)
                yield first, np.ctypeslib.as_array(pointer, shape)

    def _return_to(self, n_past: int) -> int:
        """Make the context hold the first `n_past` tokens of the document before; return `n_past`.

        0: they are not there any more, and the context is empty.
        """
        context = self._engine.context
        # Checkpoints after it are of tokens that this document does not have.
        self._windows = {n: window for n, window in self._windows.items() if n <= n_past}
        in_window = context.can_branch(n_past)
        context.truncate(n_past)
        window = self._windows.get(n_past)
        if not in_window and window is not None:
            in_window = context.restore_window(window) and context.can_branch(n_past)
        if not in_window:
            n_past = 0
            context.truncate(0)
        return n_past

    def _save_window(self, n_past: int) -> None:
        """Keep a checkpoint after the first `n_past` tokens if there is memory for it."""
        room = CHECKPOINT_BYTES - sum(map(len, self._windows.values()))
        window = self._engine.context.save_window(room)
        if window is not None:
            self._windows[n_past] = window
