"""GET /metrics, /slots and /props: state and settings of the server, in llama-server's format.

Source: llama.cpp, tools/server/README.md; names that begin with `g4:` are extensions.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from g4cli import LLAMA_CPP_PYTHON, __version__
from g4cli.operations.serving.catalog import read_template
from g4cli.operations.serving.loaded import LoadedModel
from g4cli.server.errors import HttpError, Problem
from g4cli.server.streaming import wait_for_result
from g4cli.server.wire_model import ServiceParam

router = APIRouter(tags=["monitoring"])
_ModelName = Annotated[str, Query(description='A model; "" is the default.')]


@router.get("/metrics", response_class=PlainTextResponse)
async def report_metrics(service: ServiceParam) -> PlainTextResponse:
    """Return counters and gauges in the text format of Prometheus."""
    counters, models = service.counters, list(service.pool.models.values())
    prompt_s, predicted_s = counters.prompt_s, counters.predicted_s
    waiting = sum(model.engine.n_waiting for model in models)
    # Active turns are computed or wait for a slot.
    computed = sum(min(len(model.engine.active_turns), model.n_slots) for model in models)
    rows = [
        ("llamacpp:prompt_tokens_total", "counter", "Prompt tokens evaluated.",
         counters.prompt_tokens),
        ("llamacpp:prompt_seconds_total", "counter", "Seconds of prompt processing.", prompt_s),
        ("llamacpp:tokens_predicted_total", "counter", "Tokens generated.",
         counters.predicted_tokens),
        ("llamacpp:tokens_predicted_seconds_total", "counter", "Seconds of decoding.", predicted_s),
        ("llamacpp:prompt_tokens_seconds", "gauge", "Prompt tokens per second, on average.",
         counters.prompt_tokens / prompt_s if prompt_s else 0.0),
        ("llamacpp:predicted_tokens_seconds", "gauge", "Tokens generated per second, on average.",
         counters.predicted_tokens / predicted_s if predicted_s else 0.0),
        ("llamacpp:requests_processing", "gauge", "Requests that are computed.", computed),
        ("llamacpp:requests_deferred", "gauge", "Requests that wait for a slot.", waiting),
        ("g4:answers_total", "counter", "Answers finished.", counters.answers),
        ("llamacpp:prompt_tokens_cached_total", "counter", "Prompt tokens found in the KV cache.",
         counters.reused_tokens),
        ("g4:loops_total", "counter", "Answers in which a loop was found.", counters.loops),
        ("g4:models_loaded", "gauge", "Models in memory.", len(models)),
        ("g4:worker_starts_total", "counter", "Starts of processes of the models in memory.",
         sum(model.engine.n_starts for model in models)),
    ]  # fmt: skip
    lines = [
        f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name} {value}\n"
        for name, kind, text, value in rows
    ]
    return PlainTextResponse("".join(lines), media_type="text/plain; version=0.0.4")


@router.get("/slots")
async def list_slots(service: ServiceParam, fail_on_no_slot: str = "") -> list[dict[str, Any]]:
    """Return the slots of all loaded models, without the texts that llama-server has there.

    With any `fail_on_no_slot`, such as 1, the status is 503 while all of them are busy.
    """
    models = service.pool.models.values()
    slots = [slot for model in models for slot in _describe_slots(model)]
    if fail_on_no_slot and slots and all(slot["is_processing"] for slot in slots):
        raise HttpError(Problem(503, "no slot is free", code="queue-full"))
    return slots


def _describe_slots(model: LoadedModel) -> list[dict[str, Any]]:
    turns = {turn.slot: turn for turn in model.engine.active_turns if turn.slot is not None}
    return [
        {
            "id": number,
            "model": model.name,
            "n_ctx": model.n_ctx,
            "is_processing": number in turns,
            "id_task": turns[number].number if number in turns else -1,
            "n_prompt_tokens": turns[number].prompt_tokens if number in turns else 0,
        }
        for number in range(model.n_slots)
    ]


@router.get("/props")
async def report_props(
    request: Request, service: ServiceParam, model: _ModelName = ""
) -> dict[str, Any]:
    """Return how a model is set up; it is loaded for that if it is not yet."""
    served = service.find_model(model)
    loaded = await wait_for_result(request, service.preload(model))
    sampling = asdict(loaded.sampling)
    del sampling["logit_bias"]  # no option of the server sets it
    sampling["temperature"] = sampling.pop("temp")
    sampling["n_predict"] = loaded.options.max_tokens or -1  # -1: until the context is full
    return {
        "default_generation_settings": {"n_ctx": loaded.n_ctx, "params": sampling},
        "total_slots": loaded.n_slots,
        "model_alias": served.name,
        "model_path": str(served.path),
        "modalities": {
            "vision": "image" in served.modalities,
            "audio": "audio" in served.modalities,
        },
        "chat_template": read_template(served.path),
        "build_info": f"g4 {__version__}, llama-cpp-python {LLAMA_CPP_PYTHON}",
    }
