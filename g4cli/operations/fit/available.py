"""List what can be pulled: each published type of each model, its size, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from g4cli.core.registry import MADE_TYPES, MODELS, Model
from g4cli.fit.context import COMMON_CTX, try_options
from g4cli.operations.fit.machine import Machine
from g4cli.operations.fit.options import make_chat_options
from g4cli.operations.fit.subject import describe_model
from g4cli.store.models import list_models


@dataclass(frozen=True, slots=True)
class AvailableModel:
    """A published type of a model. `title` is the model's full name: "Gemma 4 E2B".

    `download_bytes` is the size of the file: that on this disk (`is_here`), else that of the
    published file, else the estimated bytes of the weights. `fits`: with `n_ctx` tokens of context,
    in the memory that is free now.
    """

    model: str
    title: str
    type: str
    download_bytes: int
    n_ctx: int
    fits: bool
    is_default: bool
    is_here: bool

    @property
    def name(self) -> str:
        """The model with its type, as `g4 pull` takes it."""
        return f"{self.model}:{self.type}"

    def as_json(self) -> dict[str, Any]:
        """Return the row as `g4 list --available --json` shows it."""
        return {"ref": self.name, **asdict(self)}


def list_available(machine: Machine) -> tuple[AvailableModel, ...]:
    """Return what can be pulled, the smallest model first, judged for `machine`.

    Types that are larger and less precise than another of the same model are left out, but never
    the default one.
    """
    here = {entry.label: entry.nbytes for entry in list_models() if entry.role == "model"}
    models = sorted(MODELS, key=lambda model: model.n_params)
    return tuple(row for model in models for row in _list_types(model, machine, here))


def _list_types(
    model: Model, machine: Machine, here: Mapping[str, int]
) -> Iterator[AvailableModel]:
    """Yield the rows of a model, the most precise type first; `here`: bytes of files by label."""
    kinds = model.published_types or (model.default_type,)
    smallest = None
    for kind in sorted(kinds, key=MADE_TYPES.index):  # the most precise first
        subject = describe_model(f"{model.name}:{kind}")
        file = model.find_published(kind)
        n_bytes = here.get(subject.name) or (file.nbytes if file else 0) or subject.weight_bytes
        if smallest is not None and n_bytes >= smallest and kind != model.default_type:
            continue
        smallest = n_bytes if smallest is None else min(smallest, n_bytes)
        n_ctx = min(COMMON_CTX, model.shape.n_ctx_train)
        options = make_chat_options(machine.host, subject, n_ctx=n_ctx)
        trial = try_options(subject.shape, subject.tensors, options, machine.memories)
        yield AvailableModel(
            model=model.name,
            title=model.title,
            type=kind,
            download_bytes=n_bytes,
            n_ctx=n_ctx,
            fits=trial.verdict.fits,
            is_default=kind == model.default_type,
            is_here=subject.name in here,
        )
