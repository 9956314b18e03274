"""The models of the server, as the page shows them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Depends

from g4cli.core.errors import G4Error
from g4cli.core.gguf import read_header
from g4cli.estimate.media import read_image_grid
from g4cli.operations.fit.options import find_encoder
from g4cli.operations.serving.service import ServedModel, Service
from g4cli.runtime.engine.options import (
    IMAGE_TOKENS,
    RANDOM_SEED,
    Sampling,
    read_recommended_sampling,
)
from g4cli.server.page_routes.access import PageParam, check_access

router = APIRouter(
    prefix="/page/api", dependencies=[Depends(check_access)], include_in_schema=False
)
_SHOWN: Final = ("temp", "top_p", "top_k", "min_p", "repeat_penalty")


@router.get("/models")
async def list_models(page: PageParam) -> dict[str, Any]:
    """Return the models on offer, the default first."""
    return {"models": await asyncio.to_thread(describe_models, page.service)}


def describe_models(service: Service) -> list[dict[str, Any]]:
    """Return the models on offer with the defaults that their answers have."""
    return [describe_model(service, model) for model in service.list_models()]


def describe_model(service: Service, model: ServedModel) -> dict[str, Any]:
    """Return one model; sampling is that of the server's options if it is loaded."""
    loaded = service.pool.models.get(model.name)
    sampling = (
        loaded.defaults.sampling if loaded else read_recommended_sampling(read_header(model.path))
    )
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "type": model.type,
        "nbytes": model.nbytes,
        "loaded": bool(model.loaded_at),
        "n_ctx": model.n_ctx,
        "n_ctx_train": model.n_ctx_train,
        "n_slots": model.n_slots,
        "memory_bytes": model.memory_bytes,
        "modalities": list(model.modalities),
        "image": describe_images(model.path, service.image_tokens),
        "sampling": describe_sampling(sampling),
        "max_tokens": loaded.defaults.max_tokens if loaded else 0,
    }


def describe_images(path: Path, image_tokens: int) -> dict[str, Any] | None:
    """Return how the encoder of the model at `path` divides images; None if it takes none.

    `pixels` is the side of what becomes one token, `budgets` are the numbers of tokens that an
    image may have at most: the page makes an image smaller for less.
    """
    with suppress(G4Error):
        mmproj = find_encoder(path)
        grid = read_image_grid(read_header(mmproj)) if mmproj else None
        if grid is not None:
            budgets = [budget for budget in IMAGE_TOKENS if budget <= image_tokens]
            return {"pixels": grid.position_pixels, "budgets": budgets}
    return None


def describe_sampling(sampling: Sampling) -> dict[str, Any]:
    """Return sampling parameters; a seed of null is another one each time."""
    found: dict[str, Any] = {name: getattr(sampling, name) for name in _SHOWN}
    found["seed"] = None if sampling.seed == RANDOM_SEED else sampling.seed
    return found
