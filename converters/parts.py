"""The parts a checkpoint can be converted to, each as a Part: architecture, tables, keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from converters import assistant, text
from converters.config import Config
from converters.names import Ignore, Row
from converters.tokenizer import read_tokenizer, tokenizer_keys
from g4cli.core.errors import UsageError
from g4cli.core.gguf_values import Value, ValueType, array

PartName: TypeAlias = Literal["text", "mmproj"]


@dataclass(frozen=True, slots=True)
class Part:
    """What one output file is made of.

    `generated` are tensors that no checkpoint holds; `keys(file_type)` are those of the network, `more_keys`
    those after general.quantization_version.
    """

    arch: str
    kind: str
    rows: Sequence[Row]
    ignores: Sequence[Ignore]
    normalise: Callable[[str], str]
    n_layer: int
    generated: Mapping[str, NDArray[Any]]
    keys: Callable[[int], dict[str, Value]]
    more_keys: Mapping[str, Value]


def choose_part(name: PartName, config: Config, folder: Path) -> Part:
    """Return the part called `name`. Raises UsageError if this checkpoint has none such, BadCheckpoint."""
    if name == "text":
        return _text(config, folder)
    raise UsageError(f"unknown part {name!r}")


def _text(config: Config, folder: Path) -> Part:
    drafter = config.family == "assistant"
    arch = "gemma4-assistant" if drafter else "gemma4"
    tokenizer = read_tokenizer(folder, config.raw, config.text.n_vocab, suppress=config.family == "unified")

    def keys(file_type: int) -> dict[str, Value]:
        found = text.hparam_keys(config, arch, file_type)
        if tokenizer.suppress is not None:
            found["tokenizer.ggml.suppress_tokens"] = array(ValueType.INT32, tokenizer.suppress)
        if drafter:
            found.update(assistant.extra_keys(config, arch))
        return found

    generated: dict[str, NDArray[np.float32]] = {"rope_freqs.weight": text.rope_freqs(config.text)}
    return Part(
        arch=arch,
        kind="model",
        rows=assistant.ROWS if drafter else text.ROWS,
        ignores=assistant.IGNORES if drafter else text.IGNORES,
        normalise=text.normalise,
        n_layer=config.text.n_layer,
        generated=generated,
        keys=keys,
        more_keys=tokenizer_keys(tokenizer),
    )
