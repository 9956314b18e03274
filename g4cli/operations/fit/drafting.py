"""Add to the options of the estimate what speculative decoding needs: logits, a draft model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from g4cli.core.draft import draft_shape_of, draft_tensors
from g4cli.core.errors import UsageError
from g4cli.core.files import require_file
from g4cli.core.gguf import read_header
from g4cli.core.paths import expand_home
from g4cli.core.registry import find_model
from g4cli.estimate import MIN_DRAFTING_BYTES, N_DRAFT, Draft, Options
from g4cli.operations.fit.subject import Subject
from g4cli.quant.recipes import Recipe, choose_types
from g4cli.store.models import find_sidecar


def find_draft_file(model: Path | None, draft: str) -> Path | None:
    """Return the draft model's file for the value `draft` of --draft, or None.

    "auto" and "network" mean the one that was pulled with `model`, if that is a file. Raises
    FileMissing.
    """
    if draft in ("off", "lookup"):
        return None
    if draft in ("auto", "network"):
        return find_sidecar(model, "draft") if model else None
    return require_file(expand_home(draft))


def add_drafting(options: Options, subject: Subject, draft: str) -> Options:
    """Return `options` with the speculative decoding that the value `draft` of --draft selects.

    "auto" is the draft model that was pulled with the model, else prompt lookup, except for small
    models and mixtures of experts, where it does not pay. "network" is the draft model that is
    published for a model of the registry. Raises FileMissing, BadGGUF or UsageError.
    """
    drafting = replace(options, n_draft=N_DRAFT)
    if draft in ("off", "lookup"):
        return drafting if draft == "lookup" else options
    path = find_draft_file(subject.path, draft)
    if path is None and draft == "network":
        return replace(drafting, draft=_describe_published_draft(subject))
    if path is None:
        pays = subject.weight_bytes >= MIN_DRAFTING_BYTES and not subject.shape.n_expert
        return drafting if pays else options
    header = read_header(path)
    shape = draft_shape_of(header)
    if shape.n_embd_out != subject.shape.n_embd:
        raise UsageError(
            f"{path.name} is a draft model for a hidden size of {shape.n_embd_out}; "
            f"{subject.name} has {subject.shape.n_embd}",
            hint="--draft lookup",
        )
    return replace(drafting, draft=Draft(shape, tuple(header.tensors.values())))


def _describe_published_draft(subject: Subject) -> Draft:
    model = find_model(subject.model) if subject.model else None
    if model is None or model.draft_shape is None:
        raise UsageError(
            f"no draft model is known for {subject.name}",
            hint="--draft FILE with the file of a draft model, or --draft lookup",
        )
    kind = model.drafts[0].type if model.drafts else "q8_0"  # as all published drafts
    return Draft(model.draft_shape, choose_types(draft_tensors(model.draft_shape), Recipe(kind)))
