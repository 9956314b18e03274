"""Perplexity of a model on given answers, and KL divergence from another file of the same network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import BadFile, Interrupted
from g4cli.core.progress import Progress, no_progress
from g4cli.core.template_child import render_template
from g4cli.prompt import Message, PromptStyle, Renderer, choose_renderer
from g4cli.quant.scores import Score, score_predictions
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.llama_engine import LlamaEngine, open_engine
from g4cli.runtime.engine.options import ContextOptions, ModelOptions
from g4cli.runtime.measure.reports import Evaluation, TellOpening, ignore_opening

# Tokens decoded together: each has a row of scores, 1 MiB with Gemma's vocabulary.
_BATCH: Final = 64
_ROWS: Final = 8
_PAD: Final = 256
_MAX_CTX: Final = 8192
_END: Final = "<turn|>"
_THOUGHT: Final = ("<|channel>thought\n", "\n<channel|>")


@dataclass(frozen=True, slots=True)
class Document:
    """Tokens of a conversation; those from `first` on are the answer, which is scored."""

    tokens: tuple[int, ...]
    first: int


def evaluate(
    path: Path,
    conversations: Sequence[tuple[Message, ...]],
    *,
    against: Path | None = None,
    use_extra_bufts: bool = True,
    n_threads: int = 0,
    progress: Progress = no_progress,
    opening: TellOpening = ignore_opening,
) -> Evaluation:
    """Return how well the model at `path` predicts the last turn of each conversation.

    With `against` both models are loaded and run side by side on the same tokens. Raises BadFile if
    their vocabularies differ, and what loading raises. Documents beyond 8192 tokens are cut.
    """
    options = ModelOptions(use_extra_bufts=use_extra_bufts)
    with ExitStack() as stack:

        def opened(file: Path, n_ctx: int) -> LlamaEngine:
            opening(file)
            context = _context_options(n_ctx, n_threads)
            return stack.enter_context(
                open_engine(file, model_options=options, context_options=lambda _: context)
            )

        engines = [opened(path, _PAD)]
        whole = _documents(engines[0], conversations)
        documents = [Document(d.tokens[:_MAX_CTX], d.first) for d in whole if d.first < _MAX_CTX]
        if not documents:
            raise BadFile(
                f"every question is longer than {_MAX_CTX:,} tokens: nothing is left to score"
            )
        # The first context could only tokenise: now it is known how long the longest document is.
        n_ctx = -(-max(len(d.tokens) for d in documents) // _PAD) * _PAD
        engines[0].close_context()
        engines[0].context = Context(
            engines[0].model, _context_options(n_ctx, n_threads), engines[0].interrupt
        )
        if against:
            engines.append(opened(against, n_ctx))
            if _vocabulary(engines[0]) != _vocabulary(engines[1]):
                raise BadFile(
                    f"{against} has another vocabulary than {path}: they cannot be compared"
                )
        opening(None)
        steps = _Steps(progress, len(engines) * sum(len(d.tokens) - 1 for d in documents))
        scores = [_score_document(engines, document, steps) for document in documents]
    return Evaluation(
        n_documents=len(documents),
        n_exact=sum(found.n_best == found.n for found in scores),
        n_cut=sum(len(d.tokens) > _MAX_CTX for d in whole),
        score=sum(scores, Score()),
        against=against,
    )


class _Steps:
    """Counts decoded tokens, of all models together, and tells them."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, n_tokens: int) -> None:
        self._done += n_tokens
        self._progress(self._done, self._total, "evaluate")


def _context_options(n_ctx: int, n_threads: int) -> ContextOptions:
    return ContextOptions(n_ctx, n_threads=n_threads, n_batch=_BATCH, n_outputs=_BATCH)


def _documents(engine: LlamaEngine, conversations: Sequence[tuple[Message, ...]]) -> list[Document]:
    render = choose_renderer(
        engine.model.chat_template, partial(render_template, path=engine.model.path)
    )
    return [document_of(engine, render, conversation) for conversation in conversations]


def document_of(
    engine: LlamaEngine, render: Renderer, conversation: tuple[Message, ...]
) -> Document:
    """Return the tokens of a conversation; the last turn with its end mark is what is scored."""
    answer = conversation[-1]
    style = PromptStyle(think=bool(answer.thought), empty_thought=render.empty_thought)
    prompt = engine.tokens_of(render(conversation[:-1], style))
    model = engine.model
    scored: list[int] = []
    if answer.thought:
        opening, closing = (model.tokenize(mark, control=True) for mark in _THOUGHT)
        scored += opening + model.tokenize(answer.thought, control=False) + closing
    scored += model.tokenize(answer.content, control=False) + model.tokenize(_END, control=True)
    return Document(tuple(prompt + scored), len(prompt))


def _vocabulary(engine: LlamaEngine) -> tuple[int, int, bytes]:
    last = engine.model.n_vocab - 1
    return (
        engine.model.n_vocab,
        engine.model.bos,
        b"".join(map(engine.model.piece, (2, 107, last // 2, last))),
    )


def _score_document(engines: Sequence[LlamaEngine], document: Document, steps: _Steps) -> Score:
    total = Score()
    streams = [_logits(engine, document, steps) for engine in engines]
    for parts in zip(*streams, strict=True):
        position, logits = parts[0]
        base = parts[1][1] if len(parts) > 1 else None
        # A few rows at a time: each takes 1 MiB several times over.
        for row in range(0, len(logits), _ROWS):
            stop = min(row + _ROWS, len(logits))
            targets = np.array(document.tokens[position + 1 + row : position + 1 + stop], np.int64)
            total += score_predictions(
                logits[row:stop], targets, None if base is None else base[row:stop]
            )
    return total


def _logits(
    engine: LlamaEngine, document: Document, steps: _Steps
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (position, rows of scores) for the positions that predict the answer; valid until the next."""
    from g4cli.runtime.llama.library import load_llama

    c: Any = load_llama()
    context, tokens = engine.context, document.tokens[:-1]  # nothing is asked of the last token
    context.truncate(0)
    batch = c.llama_batch_init(_BATCH, 0, 1)
    try:
        for start in range(0, len(tokens), _BATCH):
            piece = tokens[start : start + _BATCH]
            batch.n_tokens = len(piece)
            for i, token in enumerate(piece):
                batch.token[i], batch.pos[i] = token, start + i
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
                batch.logits[i] = start + i >= document.first - 1
            if not context.decode_batch(batch):
                raise Interrupted("")
            steps.add(len(piece))
            first = max(start, document.first - 1)
            count = start + len(piece) - first
            if count > 0:
                pointer = c.llama_get_logits(context.handle)
                yield first, np.ctypeslib.as_array(pointer, (count, engine.model.n_vocab))
    finally:
        c.llama_batch_free(batch)
