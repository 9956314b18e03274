"""Makes an importance matrix: evaluates a text in chunks, and sums what goes into each matrix.

As llama-imatrix does it (tools/imatrix/imatrix.cpp `compute_imatrix`, llama.cpp@0c1e57098): chunks
of `n_ctx` tokens, each in an empty context and with BOS as its first token; what is left at the end
is omitted. As many chunks as a batch holds are evaluated together, as sequences of their own. The
rows then have the same order in each batch, and the sums are the same bits.

llama-imatrix asks for the logits of all tokens, 1 MiB each with Gemma's vocabulary; the matrices of
Gemma 4's layers see all tokens without that (src/models/gemma4.cpp), so only the last token of each
chunk gets logits here.

Every few seconds, between two batches, the sums so far are written to a partial file. It is an
importance matrix too, with two more keys: what it was made from (`job`), and how many chunks are
done. A run with the same job continues there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from g4cli.core.errors import BadFile, G4Error, Interrupted, UsageError
from g4cli.core.gguf import read_header
from g4cli.core.gguf_values import string_value, uint32_value
from g4cli.core.progress import Progress, no_progress
from g4cli.quant.activation_sums import ActivationSums, merge_files, read_sums, write_sums
from g4cli.runtime.engine.batch import Batch
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import N_BATCH, ContextOptions
from g4cli.runtime.engine.prompt_tokens import PromptTokens
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.runtime.measure.activations import ActivationCollector
from g4cli.runtime.measure.bench import read_peak_memory
from g4cli.runtime.measure.calibration_text import CalibrationText
from g4cli.runtime.measure.document import tokenize_conversations
from g4cli.runtime.measure.messages import RunImatrix
from g4cli.runtime.measure.reports import (
    ImatrixReport,
    TellOpening,
    describe_sums,
    ignore_opening,
)

# Keys of a partial file.
_JOB: Final = "g4.imatrix.job"
_DONE: Final = "g4.imatrix.chunks_done"


def count_sequences(n_ctx: int) -> int:
    """Return how many chunks of `n_ctx` tokens fit into llama-imatrix's usual batch of 2048."""
    return max(1, N_BATCH // n_ctx)


def make_imatrix(
    request: RunImatrix,
    interrupt: Interrupt,
    *,
    progress: Progress = no_progress,
    opening: TellOpening = ignore_opening,
) -> ImatrixReport:
    """Write the importance matrix that `request` describes, and return its figures.

    Raises Interrupted (the partial file is what was written last), BadFile (too little text, a
    model whose activations are NaN, a file of another model in `in_files`), and what loading
    raises.
    """
    opening(request.path)
    model = Model(request.path, request.model)
    opening(None)
    try:
        chunks = _make_chunks(model, request)
        sums, first = _start_sums(request, len(chunks))
        started = time.perf_counter()
        _evaluate_chunks(model, request, chunks, sums, first, interrupt, progress)
        seconds = time.perf_counter() - started
    finally:
        model.close()
    write_sums(request.out, sums)
    request.partial_file.unlink(missing_ok=True)
    return replace(
        describe_sums(sums),
        n_chunks=len(chunks),
        n_resumed=first,
        seconds=seconds,
        peak_bytes=read_peak_memory(),
    )


def _make_chunks(model: Model, request: RunImatrix) -> list[list[int]]:
    """Return the chunks of `n_ctx` tokens each, the first one BOS, at most `n_chunks` of them."""
    tokens = _tokenize_text(model, request.text)
    n_ctx = request.n_ctx
    if n_ctx > model.n_ctx_train:
        raise UsageError(
            f"the model was trained on {model.n_ctx_train:,} tokens at most",
            hint=f"--ctx {model.n_ctx_train}",
        )
    n_chunks = len(tokens) // n_ctx
    if not n_chunks:
        raise BadFile(
            f"{request.text.name} has {len(tokens):,} tokens, and a chunk has {n_ctx:,}",
            hint="a longer text, or a smaller --ctx",
        )
    chunks = [tokens[i * n_ctx : (i + 1) * n_ctx] for i in range(n_chunks)]
    if model.bos >= 0:
        for chunk in chunks:
            chunk[0] = model.bos
    return chunks[: request.n_chunks or n_chunks]


def _tokenize_text(model: Model, text: CalibrationText) -> list[int]:
    """Return the tokens of a text: as it is, or of its conversations one after another."""
    start = [model.bos] if model.bos >= 0 else []
    if text.raw is not None:
        return start + model.tokenize(text.raw, control=False)
    documents = tokenize_conversations(model, PromptTokens(model), text.conversations)
    # Each begins with BOS, which the whole has once.
    return start + [token for document in documents for token in document.tokens[len(start) :]]


def _start_sums(request: RunImatrix, n_chunks: int) -> tuple[ActivationSums, int]:
    """Return the sums to go on with, and how many chunks are in them already."""
    resumed = _read_partial(request, n_chunks)
    if resumed:
        return resumed
    if request.in_files:
        sums = merge_files(request.in_files, request.n_ctx)
    else:
        sums = ActivationSums(request.n_ctx)
    sums.datasets += (request.text.name,)
    return sums, 0


def _read_partial(request: RunImatrix, n_chunks: int) -> tuple[ActivationSums, int] | None:
    """Return what an interrupted run with the same job left, or None."""
    if not request.partial_file.is_file():
        return None
    try:
        header = read_header(request.partial_file)
        done = int(header.get(_DONE, int))
        if header.get(_JOB, str) != request.job or not 0 < done <= n_chunks:
            return None
        return read_sums(request.partial_file), done
    except G4Error:  # damaged: it is made again
        return None


def _evaluate_chunks(
    model: Model,
    request: RunImatrix,
    chunks: Sequence[Sequence[int]],
    sums: ActivationSums,
    first: int,
    interrupt: Interrupt,
    progress: Progress,
) -> None:
    """Add the activations of all chunks from number `first` on to `sums`.

    Writes the partial file now and then. Raises Interrupted, and what the collector found wrong.
    """
    n_ctx, n_seq = request.n_ctx, count_sequences(request.n_ctx)
    n_batch = min(N_BATCH, n_seq * n_ctx)
    collector = ActivationCollector(sums)
    options = ContextOptions(n_ctx, n_threads=request.n_threads, n_batch=n_batch, n_parallel=n_seq)
    context = Context(model, options, interrupt, eval_callback=collector.callback)
    batch = Batch(n_batch, n_seq)
    saved = time.monotonic()
    try:
        progress(first, len(chunks), "chunks")
        for start in range(first, len(chunks), n_seq):
            for seq in range(n_seq):
                context.truncate(0, seq)
            group = chunks[start : start + n_seq]
            is_complete = _evaluate_group(context, batch, group)
            if collector.error is not None:
                raise collector.error
            if not is_complete:
                raise Interrupted("")
            done = start + len(group)
            progress(done, len(chunks), "chunks")
            if time.monotonic() - saved > request.save_every_s and done < len(chunks):
                keys = {_JOB: string_value(request.job), _DONE: uint32_value(done)}
                write_sums(request.partial_file, sums, keys)
                saved = time.monotonic()
    finally:
        context.close()


def _evaluate_group(context: Context, batch: Batch, group: Sequence[Sequence[int]]) -> bool:
    """Evaluate the chunks of `group`, each in a sequence of its own; return False if interrupted.

    They have the same length. Several together fit into one batch; one that is longer than a batch
    is alone, and takes several batches.
    """
    for position in range(0, len(group[0]), N_BATCH):
        batch.clear()
        for seq, chunk in enumerate(group):
            tokens = chunk[position : position + N_BATCH]
            batch.add_tokens(tokens, position, seq, with_logits=True)
        if not context.decode_batch(batch.c_batch):
            return False
    return True
