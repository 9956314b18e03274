"""What guesses tokens ahead, as the estimator wants it: rows of logits, and a drafting network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from g4cli.estimate import Draft, Options
    from g4cli.operations.fit.subject import Subject


def drafter_file(subject: Subject, wish: str) -> Path | None:
    """Return the file of the drafting network that `wish` means, or None. Raises FileMissing."""
    from g4cli.core.files import require_file
    from g4cli.store.models import sidecar

    if wish in ("off", "lookup"):
        return None
    if wish in ("auto", "network"):
        return sidecar(subject.path, "draft") if subject.path else None
    return require_file(Path(wish).expanduser())


def with_guesses(options: Options, subject: Subject, wish: str) -> Options:
    """Return `options` with what guesses tokens ahead, as `g4 chat --draft` takes it.

    "auto" is the drafting network beside a pulled model, else the text itself ("lookup") unless the model is
    small or a mixture of experts, where guessing does not pay; "network" is the published one of a model by
    name. Raises FileMissing, BadGGUF or UsageError.
    """
    from g4cli.core.draft import draft_shape_of
    from g4cli.core.errors import UsageError
    from g4cli.core.gguf import read_header
    from g4cli.estimate import GUESSING_BYTES, N_GUESSES, Draft

    guessing = replace(options, n_guesses=N_GUESSES)
    if wish in ("off", "lookup"):
        return guessing if wish == "lookup" else options
    path = drafter_file(subject, wish)
    if path is None and wish == "network":
        return replace(guessing, draft=_published_draft(subject))
    if path is None:
        pays = (
            sum(t.nbytes for t in subject.tensors) >= GUESSING_BYTES and not subject.shape.n_expert
        )
        return guessing if pays else options
    header = read_header(path)
    shape = draft_shape_of(header)
    if shape.n_embd_out != subject.shape.n_embd:
        raise UsageError(
            f"{path.name} drafts for a network {shape.n_embd_out} wide; {subject.name} is "
            f"{subject.shape.n_embd} wide",
            hint="--draft lookup",
        )
    return replace(guessing, draft=Draft(shape, tuple(header.tensors.values())))


def _published_draft(subject: Subject) -> Draft:
    from g4cli.core.draft import draft_tensors
    from g4cli.core.errors import UsageError
    from g4cli.core.registry import find_model
    from g4cli.estimate import Draft
    from quant.recipes import Recipe, choose_types

    model = find_model(subject.model) if subject.model else None
    if model is None or model.draft_shape is None:
        raise UsageError(
            f"no drafting network is known for {subject.name}", hint="--draft FILE, or lookup"
        )
    kind = model.drafts[0].type if model.drafts else "q8_0"
    return Draft(model.draft_shape, choose_types(draft_tensors(model.draft_shape), Recipe(kind)))
