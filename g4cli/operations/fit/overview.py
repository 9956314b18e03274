"""Say what to run on a machine: each model in its best type, and the best of them.

The best is the most capable model whose answers are not slower than people read. More parameters
count as more capable, as in Google's model card (ai.google.dev/gemma/docs/core/model_card_4). So
31B comes before 26B, which is much faster: a token needs an eighth of its weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from g4cli.core.registry import MODELS, Model
from g4cli.core.reporter import Reporter
from g4cli.estimate import HOST, is_remote
from g4cli.estimate.decode import count_read_bytes
from g4cli.fit.context import COMMON_CTX, try_options
from g4cli.operations.fit.machine import Machine, find_request_machine
from g4cli.operations.fit.options import make_chat_options
from g4cli.operations.fit.ranking import RANKED, rank_model_types
from g4cli.operations.fit.request import FitRequest
from g4cli.operations.fit.speed import DecodeSpeeds, needs_measuring, read_decode_speeds
from g4cli.operations.fit.subject import describe_model
from g4cli.store.models import list_models

READING_TOKENS_PER_S: Final = 5.0
"""About as fast as people read: 240 words a minute, 1.3 tokens a word."""

_SHORT_CTX: Final = 4096  # a choice: tried where COMMON_CTX does not fit


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model in its best type for a machine; `type` is "" if no type fits.

    `total_bytes` of memory are needed with `n_ctx` tokens of context; `largest_ctx` is the largest
    that fits. `download_bytes` is the size of the published file, 0 if unknown or not published.
    `tokens_per_s` is None where the speed cannot be estimated. `is_here`: that type was pulled.
    """

    model: str
    title: str
    type: str = ""
    n_ctx: int = 0
    largest_ctx: int = 0
    weights_bytes: int = 0
    total_bytes: int = 0
    download_bytes: int = 0
    tokens_per_s: float | None = None
    is_here: bool = False

    @property
    def label(self) -> str:
        """The model with its type: e2b:q4_0."""
        return f"{self.model}:{self.type}".removesuffix(":")


@dataclass(frozen=True, slots=True)
class Overview:
    """The models for a machine, the smallest first, and the one to take: None if none fits.

    `reason` says why it is `best`, or why there is none.
    """

    machine: Machine
    choices: tuple[ModelChoice, ...]
    best: ModelChoice | None
    reason: str
    speeds: DecodeSpeeds

    @property
    def command(self) -> str:
        """The command to type next."""
        if self.best is None:
            return ""
        return f"g4 {'chat' if self.best.is_here else 'pull'} {self.best.label}"

    def as_json(self) -> dict[str, Any]:
        """Return the document of `g4 fit --json` without MODEL, with all sizes in bytes."""
        return {
            "machine": self.machine.description,
            "models": [asdict(choice) for choice in self.choices],
            "best": self.best.label if self.best else None,
            "reason": self.reason,
            "command": self.command,
            "speed_measured": asdict(self.speeds.measured) if self.speeds.measured else None,
            "speed_checks": [
                {**asdict(check), "error": check.error} for check in self.speeds.checks
            ],
        }


def answer_overview(request: FitRequest, reporter: Reporter) -> Overview:
    """Return what to run on the machine of `request`. Raises UsageError.

    The first call, and one that asks for it, measures for some seconds how fast this machine reads
    weights.
    """
    machine = find_request_machine(request)
    # The speed of a machine that the user describes cannot be estimated: DecodeSpeeds({}).
    is_this = request.memory_bytes is None and not request.gpu_memory_bytes
    gpus = tuple(m.name for m in machine.memories if m.name != HOST and not is_remote(m.name))
    speeds = DecodeSpeeds({})
    if is_this:
        if request.measure or needs_measuring(gpus):
            reporter.say("measuring how fast this machine reads weights ...")
        speeds = read_decode_speeds(gpus, measure="all" if request.measure else "missing")
    here = {entry.label for entry in list_models() if entry.role == "model"}
    choices = tuple(
        _choose_type(machine, speeds, model, request, here)
        for model in sorted(MODELS, key=lambda model: model.n_params)
        if not model.is_bundled
    )
    best, reason = choose_best(choices)
    return Overview(machine, choices, best, reason, speeds)


def choose_best(choices: tuple[ModelChoice, ...]) -> tuple[ModelChoice | None, str]:
    """Return the model to take and the reason; `choices` begin with the least capable."""
    fitting = [choice for choice in choices if choice.type and choice.model != "tiny"]
    if not fitting:
        return None, "no model fits: this machine has too little free memory"
    known = [choice for choice in fitting if choice.tokens_per_s is not None]
    if not known:
        return fitting[-1], "the most capable that fits"
    fast = [choice for choice in known if (choice.tokens_per_s or 0) >= READING_TOKENS_PER_S]
    if fast:
        slower = fitting[fitting.index(fast[-1]) + 1 :]
        note = "; larger ones answer more slowly than people read" if slower else ""
        return fast[-1], f"the most capable that fits and answers as fast as people read{note}"
    fastest = max(known, key=lambda choice: choice.tokens_per_s or 0)
    return fastest, "the fastest: all that fit answer more slowly than people read"


def _choose_type(
    machine: Machine, speeds: DecodeSpeeds, model: Model, request: FitRequest, here: set[str]
) -> ModelChoice:
    """Return the best type of `model`, for the longest context that fits."""
    kv_type, asked = request.kv_type, request.ctx
    contexts = (asked,) if isinstance(asked, int) else (COMMON_CTX, _SHORT_CTX)
    gpus = tuple(m.name for m in machine.memories if m.name != HOST)
    subject = describe_model(model.name)
    for n_ctx in dict.fromkeys(min(n_ctx, model.shape.n_ctx_train) for n_ctx in contexts):
        options = make_chat_options(machine.host, subject, n_ctx=n_ctx, kv_type=kv_type)
        # The type that the model was trained for is the best if it fits: others need no look.
        for kinds in ((model.default_type,), RANKED):
            ranking = rank_model_types(
                subject, options, machine.memories, machine.host, n_ctx, kinds
            )
            if ranking.best:
                break
        else:
            continue  # no type fits with so long a context
        typed = describe_model(f"{model.name}:{ranking.best}")
        row = next(row for row in ranking.types if row.type == ranking.best)
        options = make_chat_options(machine.host, typed, n_ctx=n_ctx, kv_type=kv_type)
        trial = try_options(typed.shape, typed.tensors, options, machine.memories)
        file = model.find_published(ranking.best)
        return ModelChoice(
            model=model.name,
            title=model.title,
            type=ranking.best,
            n_ctx=n_ctx,
            largest_ctx=row.largest_ctx,
            weights_bytes=row.weights_bytes,
            total_bytes=row.total_bytes,
            download_bytes=file.nbytes if file else 0,
            tokens_per_s=speeds.estimate_tokens_per_s(
                count_read_bytes(typed.shape, typed.tensors, trial.options, gpus)
            ),
            is_here=typed.name in here,
        )
    return ModelChoice(model.name, model.title, weights_bytes=subject.weight_bytes)
