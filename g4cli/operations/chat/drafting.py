"""The choice of speculative decoding for a chat: none, prompt lookup, or a draft model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from g4cli.cli.chat.run import Checked
    from g4cli.cli.output import Output
    from g4cli.runtime.engine.drafting import DraftChoice, Exactness


def choose_draft(
    out: Output, option: str, model: Checked, build_refusal: Callable[[], str]
) -> DraftChoice:
    """Return what `--draft` asks for, if model and build are made for it.

    `build_refusal` returns why the build of llama.cpp cannot use a draft model, or "".

    "auto" changes no greedy answer. An explicit choice also drafts where the last bits of logits may
    change which of two nearly equal tokens wins at temperature 0.

    Raises FileMissing, UsageError (not for this model, or not with this build).
    """
    from g4cli.core.errors import UsageError
    from g4cli.core.files import require_file
    from g4cli.core.gguf import read_header
    from g4cli.core.shape import shape_of
    from g4cli.estimate import MIN_DRAFTING_BYTES
    from g4cli.runtime.engine.drafting import DraftChoice, find_float_matrices, find_mismatch
    from g4cli.store.models import find_sidecar

    if option in ("off", "lookup"):
        return DraftChoice("lookup" if option == "lookup" else "off", "not asked for")
    is_auto = option == "auto"
    exactness: Exactness = "not asked for"
    if is_auto:
        exactness = "impossible" if find_float_matrices(model.header) else "by comparison"
    path = find_sidecar(model.path, "draft") if is_auto else require_file(Path(option).expanduser())
    if path is None:
        nbytes = sum(tensor.nbytes for tensor in model.header.tensors.values())
        # With experts each token reads other weights: what drafting gains there was never measured.
        pays = nbytes >= MIN_DRAFTING_BYTES and not shape_of(model.header).n_expert
        return DraftChoice("lookup" if pays else "off", exactness)
    why = build_refusal() or find_mismatch(read_header(path), model.header)
    if why and is_auto:
        out.warn(f"{why}: it is left out")
        return DraftChoice("lookup", exactness)
    if why:
        raise UsageError(why, hint="--draft lookup")
    out.say(f"{path.name} drafts for {model.path.name}")
    return DraftChoice("network", exactness, path)
