"""GET /health and /v1/models: whether the server answers, and what models it has."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from g4cli.operations.serving.service import ServedModel
from g4cli.server.errors import HttpError, Problem
from g4cli.server.wire_model import ServiceParam

router = APIRouter(tags=["models"])


@router.get("/health")
@router.get("/v1/health", include_in_schema=False)
async def report_health(service: ServiceParam) -> dict[str, str]:
    """Return {"status": "ok"}, or 503 while the model of the command line is being loaded."""
    if service.is_loading:
        raise HttpError(Problem(503, "Loading model", code="loading"))
    return {"status": "ok"}


@router.get("/v1/models")
@router.get("/v1/models/", include_in_schema=False)  # `show_model` would take the empty name
@router.get("/models", include_in_schema=False)
async def list_models(service: ServiceParam) -> dict[str, Any]:
    """Return the models that requests may name, the default first."""
    return {"object": "list", "data": [describe_model(model) for model in service.list_models()]}


@router.get("/v1/models/{name:path}")
async def show_model(name: str, service: ServiceParam) -> dict[str, Any]:
    """Return one model. Raises UnknownModel."""
    return describe_model(service.find_model(name))


def describe_model(model: ServedModel) -> dict[str, Any]:
    """Return a model in OpenAI's form.

    All from `aliases` on are llama-server's extensions. `n_ctx` and `n_slots` are 0 while the model
    is not loaded.
    """
    return {
        "id": model.name,
        "object": "model",
        "created": model.modified,
        "owned_by": "g4",
        "aliases": list(model.aliases),
        "status": {"value": "loaded" if model.loaded_at else "unloaded"},
        "architecture": {
            "input_modalities": list(model.modalities),
            "output_modalities": ["text"],
        },
        "meta": {
            "n_ctx_train": model.n_ctx_train,
            "n_ctx": model.n_ctx,
            "n_params": model.n_params,
            "n_slots": model.n_slots,
            "size": model.nbytes,
            "ftype": model.type,
        },
    }
