"""Choose how a chat drafts tokens: by a draft model, by prompt lookup, or not at all.

Opening a chat or a served model asks this; runtime/engine/speculation.py carries the choice out.
"""

from __future__ import annotations

from collections.abc import Callable

from g4cli.core.errors import NotFound, UsageError
from g4cli.core.gguf import read_header
from g4cli.core.reporter import Reporter
from g4cli.core.shape import shape_of
from g4cli.estimate import MIN_DRAFTING_BYTES
from g4cli.operations.chat.request import ChatRequest
from g4cli.operations.fit.drafting import find_draft_file
from g4cli.operations.models import LoadableModel
from g4cli.runtime.engine.drafting import (
    DraftChoice,
    Exactness,
    find_float_matrices,
    find_mismatch,
)


def choose_draft(
    request: ChatRequest,
    model: LoadableModel,
    find_refusal: Callable[[], str],
    reporter: Reporter,
    *,
    is_shared: bool = False,
) -> DraftChoice:
    """Return how to draft, as --draft of `request` says.

    `find_refusal` returns why this build of llama.cpp cannot use a draft model, or "". It waits for
    the worker process, so it is called only where there is such a model. "auto" takes the draft
    model that was pulled with the model, else prompt lookup where that is faster; at temperature 0
    it drafts only where the answer stays the same. A method that is named is used even where near
    ties may be decided differently; "network" is the draft model that was pulled. `is_shared`:
    several conversations share the context, where "auto" takes no draft model. Raises FileMissing
    or NotFound, or UsageError if the draft model does not fit the model or the build.
    """
    option = request.draft
    if option in ("off", "lookup"):
        return DraftChoice("lookup" if option == "lookup" else "off", "not asked for")
    is_auto = option == "auto"
    exactness: Exactness = "not asked for"
    if is_auto:
        exactness = "impossible" if find_float_matrices(model.header) else "by comparison"
    path = None if is_auto and is_shared else find_draft_file(model.path, option)
    if path is None and option == "network":
        raise NotFound(
            f"no draft model was pulled with {model.path.name}", hint="g4 pull MODEL --draft"
        )
    if path is None:
        n_bytes = sum(tensor.nbytes for tensor in model.header.tensors.values())
        # Mixtures of experts read other weights for each token: the gain was never measured there.
        pays = n_bytes >= MIN_DRAFTING_BYTES and not shape_of(model.header).n_expert
        return DraftChoice("lookup" if pays else "off", exactness)
    if request.workers:  # llama.cpp crashes: github.com/ggml-org/llama.cpp/issues/27801
        refusal: str | None = "draft models do not work with --rpc"
    else:
        refusal = find_refusal() or find_mismatch(read_header(path), model.header)
    if refusal and is_auto:
        reporter.warn(f"{refusal}: prompt lookup is used instead")
        return DraftChoice("lookup", exactness)
    if refusal:
        raise UsageError(refusal, hint="--draft lookup")
    reporter.say(f"{path.name} drafts for {model.path.name}")
    return DraftChoice("network", exactness, path)
