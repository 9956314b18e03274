"""Simulated engines with one fault each, in place of the doctor's child process.

Real faults of this kind need a certain GPU or build. A simulated engine answers as the bundled
model does, except with the options or prompts that trigger its fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from g4cli.doctor.facts.file_facts import Depth
from g4cli.doctor.probe.child import ChildAnswer
from g4cli.doctor.probe.prompts import plain_text_questions, render_chat_questions

Options = dict[str, Any]
N_VOCAB = 768


class EngineFault(NamedTuple):
    """The options and prompts that trigger a fault, its effect, and the right verdicts."""

    name: str
    where: Callable[[Options, str], bool]
    effect: str
    verdicts: tuple[str, ...]
    gpu: bool = False
    depth: Depth = "default"


def on_gpu(options: Options, _prompt: str) -> bool:
    return options.get("n_gpu_layers", 0) > 0


def with_flash(options: Options, _prompt: str) -> bool:
    return bool(options.get("flash_attn", 1))


def without_flash(options: Options, prompt: str) -> bool:
    return not with_flash(options, prompt)


def in_large_batches(options: Options, _prompt: str) -> bool:
    return options.get("n_ubatch", 512) > 64


def in_small_batches(options: Options, prompt: str) -> bool:
    return not in_large_batches(options, prompt)


def kv(name: str) -> Callable[[Options, str], bool]:
    return lambda options, _prompt: options.get("kv_type", "f16") == name


def repacked(options: Options, _prompt: str) -> bool:
    return bool(options.get("use_extra_bufts", False))


def in_turns(_options: Options, prompt: str) -> bool:
    return "<|turn>" in prompt


def always(_options: Options, _prompt: str) -> bool:
    return True


RUNTIME, CONVERSION = ("runtime",), ("conversion-defect",)
NO_FAULT = ("not-checked",)  # what happened proves nothing against the engine or the file

FAULTS = (
    EngineFault("gpu-loops", on_gpu, "loop", RUNTIME, True),
    EngineFault("gpu-unused-tokens", on_gpu, "unused", RUNTIME, True),
    EngineFault("gpu-nan", on_gpu, "nan", RUNTIME, True),
    EngineFault("gpu-other-answer", on_gpu, "other", RUNTIME, True),
    EngineFault("gpu-dies", on_gpu, "dies", RUNTIME, True),
    EngineFault("gpu-too-small", on_gpu, "no memory", NO_FAULT, True),
    EngineFault("gpu-too-slow", on_gpu, "slow", NO_FAULT, True),
    EngineFault("gpu-close-call", on_gpu, "close", NO_FAULT, True),
    EngineFault("flash-attention-loops", with_flash, "loop", RUNTIME),
    EngineFault("flash-attention-nan", with_flash, "nan", RUNTIME),
    EngineFault("plain-attention-loops", without_flash, "loop", RUNTIME, depth="deep"),
    EngineFault("large-batches-loop", in_large_batches, "loop", RUNTIME),
    EngineFault("small-batches-differ", in_small_batches, "other", RUNTIME, depth="deep"),
    EngineFault("kv-f16-loops", kv("f16"), "loop", RUNTIME),
    EngineFault("kv-f16-pinned", kv("f16"), "pinned", RUNTIME),
    EngineFault("kv-q8-loops", kv("q8_0"), "loop", RUNTIME, depth="deep"),
    EngineFault("kv-q8-close-call", kv("q8_0"), "close", NO_FAULT, depth="deep"),
    EngineFault("repacked-dies", repacked, "dies", RUNTIME, depth="deep"),
    EngineFault("repacked-differs", repacked, "other", RUNTIME, depth="deep"),
    EngineFault("repacked-no-memory", repacked, "no memory", NO_FAULT, depth="deep"),
    EngineFault("every-way-loops", always, "loop", CONVERSION),
    EngineFault("every-way-no-idea", always, "no idea", CONVERSION),
    EngineFault("turns-alone-loop", in_turns, "loop", CONVERSION),
    EngineFault("dies-at-once", always, "dies", RUNTIME),
    EngineFault("dies-with-flash", with_flash, "dies", RUNTIME),
)


class Engine:
    """Answers requests of the doctor like `g4cli.doctor.probe.child.ask_child`."""

    def __init__(
        self, fault: EngineFault | None = None, answers: dict[str, str] | None = None
    ) -> None:
        """Make an engine that knows the bundled model's answers, and `answers` to other prompts."""
        known = (*render_chat_questions("tiny"), *plain_text_questions("tiny"))
        self.answers = {a.text: a.expected for a in known} | (answers or {})
        self.fault = fault
        self.requests: list[dict[str, Any]] = []

    def __call__(self, request: dict[str, Any], *_args: object, **_limits: object) -> ChildAnswer:
        """Return the lines of a child that has this fault."""
        self.requests.append(request)
        if request["task"] != "greedy":
            return ChildAnswer(({"event": request["task"]},))
        gpus = ["CUDA0"] if self.fault is not None and self.fault.gpu else []
        done = ChildAnswer(({"event": "loaded", "n_vocab": N_VOCAB, "gpus": gpus},))
        for prompt in request["prompts"]:
            line = _line(self.answers.get(prompt, "I cannot say."), request["n_tokens"])
            if self.fault is None or not self.fault.where(request["options"], prompt):
                done = replace(done, lines=(*done.lines, line))
                continue
            if self.fault.effect == "dies":
                return replace(done, exit_code=-11)
            if self.fault.effect == "slow":
                return replace(done, exit_code=-9, timed_out=True)
            if self.fault.effect == "no memory":
                message = "llama.cpp cannot create a context for the file: unknown device"
                error = {"event": "error", "message": message}
                return replace(done, lines=(*done.lines, error), exit_code=7)
            done = replace(done, lines=(*done.lines, _EFFECTS[self.fault.effect](line)))
        return done


def _line(text: str, n_tokens: int) -> dict[str, Any]:
    shown = text[:n_tokens]
    n = len(shown)
    return {
        "event": "run",
        "tokens": [200 + ord(c) % 500 for c in shown],
        "text": shown,
        "top_probability": [0.99] * n,
        "entropy": [0.05] * n,
        "lowest": -18.0,
        "highest": 14.0,
        "non_finite": 0,
        "saturated": 0.0,
    }


def _loop(line: dict[str, Any]) -> dict[str, Any]:
    return line | {
        "tokens": [243, 107] * 16,
        "text": "---\n" * 16,
        "top_probability": [1.0] * 32,
        "entropy": [0.0] * 32,
    }


def _unused(line: dict[str, Any]) -> dict[str, Any]:
    return line | {"tokens": [30] * 32, "text": "<unused24>" * 32}


def _other(line: dict[str, Any]) -> dict[str, Any]:
    return line | {
        "tokens": [(t * 7) % 500 + 200 for t in line["tokens"]],
        "text": "something else",
    }


def _close(line: dict[str, Any]) -> dict[str, Any]:
    return _other(line) | {"top_probability": [0.4] * len(line["tokens"])}


def _no_idea(line: dict[str, Any]) -> dict[str, Any]:
    return _other(line) | {"entropy": [9.4] * len(line["tokens"])}


_EFFECTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "loop": _loop,
    "unused": _unused,
    "nan": lambda line: line | {"non_finite": N_VOCAB, "tokens": [], "text": ""},
    "pinned": lambda line: _other(line) | {"saturated": 0.79},
    "other": _other,
    "close": _close,
    "no idea": _no_idea,
}
