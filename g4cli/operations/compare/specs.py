"""The models of a comparison as they are written: MODEL[:TYPE][@OPTION=VALUE,...], openai:URL#NAME.

The options are those of `g4 chat`, without their dashes. An endpoint takes some of them, and `key`
(the environment variable with its key) and `parallel` (how many answers are asked for at once).
No value can hold a comma; a text of --system can.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from g4cli.core.errors import UsageError
from g4cli.core.units import parse_count
from g4cli.operations.chat.request import ChatRequest
from g4cli.remote.endpoint import check_url

REMOTE: Final = "openai:"
_MAX_PARALLEL: Final = 64  # a choice: each takes a thread
# As --seed: up to 1,000 answers count on from it, and the last number of 32 bits, which none may
# reach, is LLAMA_DEFAULT_SEED: it asks for a random seed.
_MAX_SEED: Final = (1 << 32) - 1001
# Hosts whose key is found without `key`. Any other host gets one only if it is named.
_KEYS: Final[Mapping[str, str]] = MappingProxyType({
    "api.openai.com": "OPENAI_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
})  # fmt: skip


# Parsers of values: they raise ValueError or UsageError.


def _parse_word_among(*words: str) -> Callable[[str], str]:
    """Return a parser that accepts these words alone."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return parse


def _parse_number_within(
    kind: type[int] | type[float], low: float, high: float
) -> Callable[[str], float]:
    """Return a parser of numbers from `low` to `high`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(-1)  # outside of any range here
        if not low <= value <= high:
            form = "," if kind is int else "g"
            raise ValueError(f"a number from {low:{form}} to {high:{form}}")
        return value

    return parse


def _parse_token_count(text: str) -> int:
    """Return the most tokens of an answer; 0, for "" and "0": no limit."""
    return 0 if text in ("", "0") else parse_count(text)


def _parse_context(text: str) -> str:
    """Return a size of context as it is written; "": the default of a comparison."""
    if text not in ("", "max"):
        parse_count(text)
    return text


def _parse_switch(text: str) -> bool:
    return _parse_word_among("on", "off")(text) == "on"


# Option -> parser of its value. The ranges are those of `g4 chat` and of the image token budgets of
# Gemma 4; other upper limits are choices, far beyond any use. Those of a local model are fields of
# ChatRequest, with _ for -.
_LOCAL: Final[Mapping[str, Callable[[str], Any]]] = MappingProxyType({
    "ctx": _parse_context,
    "kv-type": _parse_word_among("f16", "q8_0", "q4_0"),
    "temp": _parse_number_within(float, 0, 100),
    "top-p": _parse_number_within(float, 0, 1),
    "top-k": _parse_number_within(int, 0, 1 << 20),
    "min-p": _parse_number_within(float, 0, 1),
    "repeat-penalty": _parse_number_within(float, 0.1, 100),
    "seed": _parse_number_within(int, 0, _MAX_SEED),
    "max-tokens": _parse_token_count,
    "system": str,
    "think": _parse_word_among("off", "on", "low", "medium", "high"),
    "threads": _parse_number_within(int, 0, 4096),
    "gpu-layers": str,
    "device": str,
    "mmap": _parse_switch,
    "lazy-ple": _parse_word_among("auto", "on", "off"),
    "cpu-moe": _parse_switch,
    "expand": _parse_word_among("bf16", "q8_0"),
    "draft": str,
    "mmproj": Path,
    "image-tokens": _parse_number_within(int, 70, 1120),
})  # fmt: skip
_REMOTE: Final[Mapping[str, Callable[[str], Any]]] = MappingProxyType({
    **{name: _LOCAL[name] for name in ("temp", "top-p", "seed", "max-tokens", "system")},
    "think": _parse_word_among("low", "medium", "high"),  # reasoning_effort: no "on"
    "key": str,
    "parallel": _parse_number_within(int, 1, _MAX_PARALLEL),
})  # fmt: skip
# Settings that change how fast an answer comes, but not the answer: after a change of them nothing
# is asked again. Other options of loading (gpu-layers, device, mmap, cpu-moe) may choose other code
# to compute with, which rounds differently, so that an answer can change.
_SPEED_ONLY: Final = frozenset(("threads", "key", "parallel"))
_SETTINGS: Final = re.compile(r"[a-z][a-z-]*=[^,]*(?:,[a-z][a-z-]*=[^,]*)*")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model with its settings. `label` is how it was written, `url` "" for a local model.

    `name` is MODEL[:TYPE] or the path of a local model; for an endpoint, what follows the #.
    `settings` holds the values as texts, which `parse_models` has checked.
    """

    label: str
    name: str
    settings: Mapping[str, str]
    url: str = ""

    @property
    def seed(self) -> int:
        """The seed of the first answer; the next answers to a prompt count on from it."""
        return int(self.settings["seed"])

    @property
    def identity(self) -> dict[str, str]:
        """The settings that an answer depends on."""
        return {k: v for k, v in sorted(self.settings.items()) if k not in _SPEED_ONLY}

    @property
    def n_parallel(self) -> int:
        """How many answers of an endpoint are asked for at once."""
        return int(self.settings.get("parallel", "1"))

    def make_request(self) -> ChatRequest:
        """Return the chat request of a local model."""
        fields = {
            name.replace("-", "_"): _LOCAL[name](value) for name, value in self.settings.items()
        }
        return ChatRequest(model=self.name, **fields)

    def make_options(self, seed: int) -> dict[str, Any]:
        """Return the fields of a request to an endpoint, without model and messages."""
        names = {"temp": "temperature", "top-p": "top_p", "think": "reasoning_effort"}
        values = {name: _REMOTE[name](value) for name, value in self.settings.items()}
        options = {names[name]: values[name] for name in names if name in values}
        if values.get("max-tokens"):
            options["max_tokens"] = values["max-tokens"]
        return options | {"seed": seed}

    def read_key(self) -> str:
        """Return the key of an endpoint, from its environment variable, or "".

        Raises UsageError if the variable that was named is not set.
        """
        named = self.settings.get("key", "")
        if named and not os.environ.get(named):
            raise UsageError(
                f"{self.label}: the environment variable {named} is not set",
                hint=f"export {named}=...",
            )
        host = urlsplit(self.url).hostname or ""
        return os.environ.get(named or _KEYS.get(host, ""), "").strip()


def parse_models(texts: Sequence[str], defaults: Mapping[str, str]) -> tuple[ModelSpec, ...]:
    """Return the models of -m, with the settings of the command line where they have none.

    Raises UsageError for an unknown option, a wrong value, or a model that is named twice.
    """
    specs = tuple(_parse_model(text, defaults) for text in texts)
    labels = [spec.label for spec in specs]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"{label} is named twice", hint=f"-m {label} -m {label}@temp=0")
    return specs


def _parse_model(text: str, defaults: Mapping[str, str]) -> ModelSpec:
    name, settings = _split_settings(text)
    is_remote = name.startswith(REMOTE)
    known = _REMOTE if is_remote else _LOCAL
    for option in settings:
        if option not in known:
            raise UsageError(
                f"{text}: unknown option {option!r}; known: {', '.join(sorted(known))}",
                hint=f"-m {name}@{'temp=0' if is_remote else 'kv-type=q8_0'}",
            )
    merged = {k: v for k, v in defaults.items() if k in known} | settings
    for option, value in merged.items():
        try:
            known[option](value)
        except ValueError as err:
            raise UsageError(f"{text}: {option} must be {err}, not {value!r}") from None
    if not is_remote:
        return ModelSpec(text, name, merged)
    url, mark, model = name.removeprefix(REMOTE).partition("#")
    if not mark or not model:
        raise UsageError(
            f"{text} does not say which model of the endpoint to ask",
            hint="-m openai:http://127.0.0.1:8080/v1#MODEL",
        )
    # First the URL alone, since its host decides which key is sent; then whether a key may be.
    spec = ModelSpec(text, model, merged, check_url(url, has_key=False))
    check_url(url, has_key=bool(spec.read_key()))
    return spec


def _split_settings(text: str) -> tuple[str, dict[str, str]]:
    """Return the name and the settings of "NAME@OPTION=VALUE,...@OPTION=VALUE".

    An @ that no option follows belongs to the name, such as a revision on the hub. Of an option
    that is there twice, the last one counts: hints append another @OPTION=VALUE. Raises UsageError.
    """
    name = text
    settings: dict[str, str] = {}
    while "@" in name:
        before, _, rest = name.rpartition("@")
        if not _SETTINGS.fullmatch(rest):
            option, _, value = rest.partition("=")
            if option in _LOCAL.keys() | _REMOTE.keys() and "," in value:
                raise UsageError(
                    f"{text}: a value cannot hold a comma: after it comes the next OPTION=VALUE",
                    hint=f"-m {before}@temp=0,seed=1",
                )
            break
        pairs = (item.partition("=") for item in rest.split(","))
        settings = {key: value for key, _, value in pairs} | settings
        name = before
    if not name or name == REMOTE:
        raise UsageError("a model has no name", hint="-m e2b")
    return name, settings
