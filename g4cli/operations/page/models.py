"""What the page says of models: which can be pulled, and how each fits this machine."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from g4cli.core.errors import G4Error
from g4cli.core.quoting import shell_command
from g4cli.core.registry import MODELS, Model
from g4cli.core.reporter import Reporter
from g4cli.operations.fit.answer import answer_fit
from g4cli.operations.fit.request import FitRequest
from g4cli.operations.serving.service import Service
from g4cli.store.models import find_model_file, list_models

_GROUPS: Final = ("weights", "kv", "compute", "process")  # of terms in host or GPU memory
_BASE_SUFFIX: Final = "-base"  # of the names of models that were not trained to answer


def list_known_models() -> list[dict[str, Any]]:
    """Return the models that `g4 pull` knows and people chat with, and what is here of each.

    `types` are the published ones, with the bytes of their files where they are known; the default
    is the first.
    """
    here = {(entry.name, entry.type) for entry in list_models() if entry.role == "model"}
    return [
        {
            "name": model.name,
            "title": model.title,
            "types": [
                {
                    "name": type_name,
                    "nbytes": published.nbytes if published else 0,
                    "here": (model.name, type_name) in here,
                }
                for type_name in _list_types(model)
                for published in (model.find_published(type_name),)
            ],
        }
        for model in MODELS
        if not model.name.endswith(_BASE_SUFFIX)
    ]


def describe_fit(model: str, reporter: Reporter) -> dict[str, Any]:
    """Return how a model, named as for `g4 fit`, fits this machine: sizes in bytes.

    `devices` have the memory of each, and what the model needs of it by group. Raises what
    answer_fit raises.
    """
    answer = answer_fit(FitRequest(model=model), reporter)
    plan = answer.plan
    needed: dict[str, dict[str, int]] = {}
    for term in plan.estimate.terms:
        if term.group in _GROUPS:
            groups = needed.setdefault(term.device, dict.fromkeys(_GROUPS, 0))
            groups[term.group] += term.nbytes
    return {
        "fits": plan.verdict.fits,
        "reason": plan.verdict.reason,
        "instead": answer.alternative,
        "n_ctx": plan.options.n_ctx,
        "largest_ctx": plan.largest_ctx,
        "n_ctx_train": answer.subject.shape.n_ctx_train,
        "total_bytes": plan.estimate.total_bytes,
        "weight_bytes": answer.subject.weight_bytes,
        "devices": [
            {
                "name": memory.name,
                "total_bytes": memory.total_bytes,
                "available_bytes": memory.available_bytes,
                "groups": needed.get(memory.name, {}),
            }
            for memory in answer.machine.memories
        ],
    }


def write_doctor_command(service: Service, name: str) -> str:
    """Return the command that examines the file of the model `name` on offer."""
    path = service.find_model(name).path
    with suppress(G4Error):
        if find_model_file(name).path == path:
            return shell_command("g4", "doctor", name)
    return shell_command("g4", "doctor", path)


def _list_types(model: Model) -> tuple[str, ...]:
    types = model.published_types or (model.default_type,)
    return tuple(dict.fromkeys((model.default_type, *types)))
