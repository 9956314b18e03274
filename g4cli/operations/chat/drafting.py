"""What guesses tokens ahead in a chat: nothing, the text itself, or a drafting network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from g4cli.cli.chat.run import Checked
    from g4cli.cli.output import Output
    from g4cli.runtime.engine.drafting import Draft, Exactness


def choose_draft(out: Output, wish: str, model: Checked, build_refusal: Callable[[], str]) -> Draft:
    """Return what `--draft` asks for, if model and build are made for it.

    `build_refusal` returns why the build of llama.cpp cannot use a drafting network, or "".

    Who names the source himself wants guesses also where a near tie may fall otherwise at temperature 0;
    "auto" changes nothing there. Raises FileMissing, UsageError (not for this model, or not with this build).
    """
    from g4cli.core.errors import UsageError
    from g4cli.core.files import require_file
    from g4cli.core.gguf import read_header
    from g4cli.core.shape import shape_of
    from g4cli.runtime.engine.drafting import SMALLEST_BYTES, Draft, float_matrices, mismatch
    from g4cli.store.models import sidecar

    if wish in ("off", "lookup"):
        return Draft("lookup" if wish == "lookup" else "off", "not asked for")
    is_auto = wish == "auto"
    exactness: Exactness = "not asked for"
    if is_auto:
        exactness = "impossible" if float_matrices(model.header) else "by comparison"
    path = sidecar(model.path, "draft") if is_auto else require_file(Path(wish).expanduser())
    if path is None:
        nbytes = sum(tensor.nbytes for tensor in model.header.tensors.values())
        # With experts each token reads other weights: what guessing gains there was never measured.
        pays = nbytes >= SMALLEST_BYTES and not shape_of(model.header).n_expert
        return Draft("lookup" if pays else "off", exactness)
    why = build_refusal() or mismatch(read_header(path), model.header)
    if why and is_auto:
        out.warn(f"{why}: it is left out")
        return Draft("lookup", exactness)
    if why:
        raise UsageError(why, hint="--draft lookup")
    out.say(f"{path.name} drafts for {model.path.name}")
    return Draft("network", exactness, path)
