"""The two files that a checkpoint can be converted to: the text network and the mmproj.

convert.py writes what a Part describes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from g4cli.converters import assistant, audio, text, vision
from g4cli.converters.checkpoint import read_json
from g4cli.converters.config import Config
from g4cli.converters.names import Ignore, Row
from g4cli.converters.tokenizer import read_tokenizer, tokenizer_keys
from g4cli.core.errors import BadCheckpoint, UsageError
from g4cli.core.gguf_values import Value, ValueType, array_value, uint32_value
from g4cli.core.quoting import shell_word

PartName: TypeAlias = Literal["text", "mmproj"]


@dataclass(frozen=True, slots=True)
class Part:
    """The content of one output file.

    `arch` and `kind` are the values of general.architecture and general.type. `tables` pair the
    rows of a mapping (names.py) with the number of layers of their network. `generated` are tensors
    that no checkpoint has. `make_keys(file_type)` returns the network's keys. `tokenizer_keys` are
    written last, after general.quantization_version; an mmproj has none.
    """

    arch: str
    kind: str
    tables: Sequence[tuple[Sequence[Row], int]]
    ignores: Sequence[Ignore]
    normalize_name: Callable[[str], str]
    generated: Mapping[str, NDArray[Any]]
    make_keys: Callable[[int], dict[str, Value]]
    tokenizer_keys: Mapping[str, Value]


def make_part(name: PartName, config: Config, folder: Path) -> Part:
    """Return the part `name` of the checkpoint in `folder`.

    Raises UsageError if the checkpoint has no such part, BadCheckpoint if a file of it is unusable.
    """
    return _make_text_part(config, folder) if name == "text" else _make_mmproj_part(config, folder)


def _make_text_part(config: Config, folder: Path) -> Part:
    is_assistant = config.family == "assistant"
    arch = "gemma4-assistant" if is_assistant else "gemma4"
    tokenizer = read_tokenizer(
        folder, config.raw, config.text.n_vocab, with_suppressed=config.family == "unified"
    )

    def make_keys(file_type: int) -> dict[str, Value]:
        keys = text.hparam_keys(config, arch, file_type)
        if tokenizer.suppressed_ids is not None:
            keys["tokenizer.ggml.suppress_tokens"] = array_value(
                ValueType.INT32, tokenizer.suppressed_ids
            )
        if is_assistant:
            keys.update(assistant.extra_keys(config, arch))
        return keys

    generated: dict[str, NDArray[np.float32]] = {"rope_freqs.weight": text.rope_freqs(config.text)}
    return Part(
        arch=arch,
        kind="model",
        tables=[(assistant.ROWS if is_assistant else text.ROWS, config.text.n_layer)],
        ignores=assistant.IGNORES if is_assistant else text.IGNORES,
        normalize_name=text.normalize_name,
        generated=generated,
        make_keys=make_keys,
        tokenizer_keys=tokenizer_keys(tokenizer),
    )


def _make_mmproj_part(config: Config, folder: Path) -> Part:
    # The embedders of the 12B are for images and audio.
    has_audio = config.audio is not None or config.embedder is not None
    if config.vision is None and config.embedder is None:
        missing = (
            "vision_config" if config.family != "unified" else "vision_config and audio_config"
        )
        raise UsageError(
            f"{folder} has no {missing}, so no mmproj can be made from it",
            hint=f"g4 convert {shell_word(folder)}",
        )
    mean, std = _read_pixel_mean_and_std(folder)

    def make_keys(file_type: int) -> dict[str, Value]:
        return {
            "general.file_type": uint32_value(file_type),
            **vision.vision_keys(config, mean, std),
            **(audio.audio_keys(config) if has_audio else {}),
            **vision.closing_keys(config),
            **(audio.closing_keys(config) if has_audio else {}),
        }

    tables: list[tuple[Sequence[Row], int]] = []
    if config.embedder is not None:
        tables += [(vision.EMBEDDER_ROWS, 0), (audio.EMBEDDER_ROWS, 0)]
    if config.vision is not None:
        tables.append((vision.ENCODER_ROWS, config.vision.n_layer))
    if config.audio is not None:
        tables.append((audio.CONFORMER_ROWS, config.audio.n_layer))
    return Part("clip", "mmproj", tables, vision.IGNORES, vision.normalize_name, {}, make_keys, {})


def _read_pixel_mean_and_std(folder: Path) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation of pixels, for each color.

    They come from processor_config.json, else from preprocessor_config.json. Without either they
    are 0 and 1: Gemma 4 does not normalize its pixels (image_processing_gemma4.py, transformers
    5.23.0).
    """
    scale: dict[str, Any] = {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}
    for name in ("preprocessor_config.json", "processor_config.json"):
        settings = read_json(folder / name, required=False)
        inner = settings.get("image_processor")
        for part in (settings, inner if isinstance(inner, dict) else {}):
            scale.update({key: part[key] for key in scale if part.get(key) is not None})
    for key, value in scale.items():
        if (
            not isinstance(value, list)
            or len(value) != 3
            or not all(isinstance(v, (int, float)) and abs(v) < 1e6 for v in value)
        ):
            raise BadCheckpoint(f"{folder}: {key} is {value!r}; it must be three numbers")
    return scale["image_mean"], scale["image_std"]
