"""The models of the server, and those that can be pulled: list, fit, load, unload, pull."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from g4cli.core.errors import BadField, G4Error
from g4cli.core.gguf import read_header
from g4cli.core.registry import looks_like_name, parse_name
from g4cli.estimate.media import read_image_grid
from g4cli.operations.page.models import describe_fit, list_known_models
from g4cli.operations.page.pulls import PullJob
from g4cli.operations.serving.service import ServedModel, Service
from g4cli.runtime.engine.options import IMAGE_TOKENS, RANDOM_SEED, choose_sampling
from g4cli.server.errors import HttpError, Problem
from g4cli.server.limits import MAX_TOKENS
from g4cli.server.logs import LogReporter
from g4cli.server.page_routes.access import PageParam, make_page_router
from g4cli.server.wire_model import RequestBody

router = make_page_router()
_fitting: Final = asyncio.Semaphore(1)  # each takes a second of computing
# Fields of Sampling that the page shows.
_SHOWN: Final = ("temp", "top_p", "top_k", "min_p", "repeat_penalty")


class NameBody(RequestBody):
    """The name of a model."""

    name: Annotated[str, Field(max_length=1000)]


@router.get("/models")
async def list_models(page: PageParam) -> dict[str, Any]:
    """Return the models on offer, the default first.

    `fixed`: they are those of the command line, and a model that is pulled is not among them.
    """
    models = await asyncio.to_thread(_describe_models, page.service)
    return {"models": models, "fixed": page.service.is_fixed}


@router.get("/models/fit")
async def fit_model(name: str, page: PageParam) -> dict[str, Any]:
    """Return how a model on offer fits this machine."""
    return await _describe_fit(str(page.service.find_model(name).path))


@router.post("/models/load")
async def load_model(body: NameBody, page: PageParam) -> dict[str, Any]:
    """Load a model; return when it is loaded."""
    await page.service.load(body.name)
    return {}


@router.post("/models/unload")
async def unload_model(body: NameBody, page: PageParam) -> dict[str, Any]:
    """Unload a model; `loaded`: it has requests, and is unloaded after them."""
    await page.service.unload(body.name)
    return {"loaded": bool(page.service.find_model(body.name).loaded_at)}


class ContextBody(NameBody):
    """The context of a model in tokens; 0: what it has without a choice."""

    n_ctx: Annotated[int, Field(ge=0, le=MAX_TOKENS)]


@router.post("/models/context")
async def set_context(body: ContextBody, page: PageParam) -> dict[str, Any]:
    """Load a model again with another context; return when it is loaded."""
    return {"n_ctx": await page.service.set_context(body.name, body.n_ctx)}


@router.get("/catalog")
async def list_catalog(page: PageParam) -> dict[str, Any]:
    """Return the models that can be pulled; `may_pull`: whether this page may."""
    return {"models": await asyncio.to_thread(list_known_models), "may_pull": not page.private}


@router.get("/catalog/fit")
async def fit_known_model(name: str) -> dict[str, Any]:
    """Return how a model of the registry fits this machine, before it is pulled."""
    if not looks_like_name(name):
        raise BadField("name", "not the name of a model")
    return await _describe_fit(str(parse_name(name)))


@router.get("/pulls")
async def list_pulls(page: PageParam) -> dict[str, Any]:
    """Return the pulls since the server began."""
    return {"pulls": [describe_pull(job) for job in page.pulls.jobs.values()]}


@router.post("/pulls")
async def start_pull(body: NameBody, page: PageParam) -> dict[str, Any]:
    """Begin to pull a model."""
    if page.private:
        what = "a server without a key at an address of the network pulls no models"
        raise HttpError(Problem(403, what, code="private"))
    return describe_pull(page.pulls.start(body.name))


@router.post("/pulls/stop")
async def stop_pull(body: NameBody, page: PageParam) -> dict[str, Any]:
    """Stop a pull."""
    page.pulls.stop(body.name)
    return {}


def describe_pull(job: PullJob) -> dict[str, Any]:
    """Return how far a pull is (Pull in page/models.js). Sizes of its parts are in bytes."""
    parts = dict(job.parts)
    return {
        "name": job.name,
        "state": job.state,
        "error": job.error,
        "hint": job.hint,
        "message": job.messages[-1] if job.messages else "",
        "parts": [
            {"name": name, "done": done, "total": total} for name, (done, total) in parts.items()
        ],
    }


async def _describe_fit(model: str) -> dict[str, Any]:
    async with _fitting:
        return await asyncio.to_thread(describe_fit, model, LogReporter())


def _describe_models(service: Service) -> list[dict[str, Any]]:
    return [describe_model(service, model) for model in service.list_models()]


def describe_model(service: Service, model: ServedModel) -> dict[str, Any]:
    """Return one model (ServedModel in page/types.js).

    `sampling` are the defaults of its answers: while it is not loaded those of its file, without
    the options of the server. `n_ctx_chosen`: the context that a page has chosen; 0: none.
    """
    loaded = service.pool.models.get(model.name)
    sampling = loaded.sampling if loaded else choose_sampling(read_header(model.path))
    # A seed of null is another one for each answer.
    shown = {name: getattr(sampling, name) for name in _SHOWN}
    shown["seed"] = None if sampling.seed == RANDOM_SEED else sampling.seed
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "type": model.type,
        "nbytes": model.nbytes,
        "loaded": bool(model.loaded_at),
        "n_ctx": model.n_ctx,
        "n_ctx_chosen": service.contexts.get(model.name, 0),
        "n_ctx_train": model.n_ctx_train,
        "n_slots": model.n_slots,
        "memory_bytes": model.memory_bytes,
        "modalities": list(model.modalities),
        "image": describe_images(model.mmproj, service.image_tokens),
        "sampling": shown,
        "max_tokens": loaded.options.max_tokens if loaded else 0,
    }


def describe_images(mmproj: Path | None, image_tokens: int) -> dict[str, Any] | None:
    """Return how the encoder in the file `mmproj` divides images; None if it takes none.

    `pixels` is the side of what becomes one token, `budgets` are the numbers of tokens that an
    image may have at most: the page makes an image smaller for less.
    """
    with suppress(G4Error):
        grid = read_image_grid(read_header(mmproj)) if mmproj else None
        if grid is not None:
            budgets = [budget for budget in IMAGE_TOKENS if budget <= image_tokens]
            return {"pixels": grid.position_pixels, "budgets": budgets}
    return None
