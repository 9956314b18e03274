"""The two files that a checkpoint can be converted to: the text network and the mmproj.

convert.py writes what a Part describes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from g4cli.converters import audio, text, vision
from g4cli.converters.checkpoint import read_json
from g4cli.converters.config import Config
from g4cli.converters.names import ExpectedTensor, Ignore, expand_rows
from g4cli.converters.tokenizer import read_tokenizer, tokenizer_keys
from g4cli.core.errors import BadCheckpoint, UsageError
from g4cli.core.ggml import QUANTIZATION_VERSION
from g4cli.core.gguf_values import Value, ValueType, array_value, uint32_value
from g4cli.core.quoting import shell_word

PartName: TypeAlias = Literal["text", "mmproj"]
_QUANTIZATION_KEYS: Final = {"general.quantization_version": uint32_value(QUANTIZATION_VERSION)}


@dataclass(frozen=True, slots=True)
class Part:
    """The content of one output file.

    `arch` and `kind` are the values of general.architecture and general.type. `expected` are the
    tensors that it is made of, by the names that `normalize_name` makes of the checkpoint's;
    tensors that match `ignores` are left out. `generated` are tensors that no checkpoint has, by
    GGUF name. `keys` are written after general.*.
    """

    arch: str
    kind: str
    expected: Mapping[str, ExpectedTensor]
    ignores: Sequence[Ignore]
    normalize_name: Callable[[str], str]
    generated: Mapping[str, NDArray[np.float32]]
    keys: Mapping[str, Value]


def make_part(name: PartName, config: Config, folder: Path, file_type: int) -> Part:
    """Return the part `name` of the checkpoint in `folder`; `file_type` is general.file_type.

    Raises UsageError if the checkpoint has no such part, BadCheckpoint if a file of it is unusable.
    """
    make = _make_text_part if name == "text" else _make_mmproj_part
    return make(config, folder, file_type)


def _make_text_part(config: Config, folder: Path, file_type: int) -> Part:
    network = config.text
    is_assistant = config.family == "assistant"
    arch = "gemma4-assistant" if is_assistant else "gemma4"
    tokenizer = read_tokenizer(
        folder, config.raw, network.n_vocab, with_suppressed=config.family == "unified"
    )
    keys = text.hparam_keys(network, arch, file_type)
    if tokenizer.suppressed_ids is not None:
        keys["tokenizer.ggml.suppress_tokens"] = array_value(
            ValueType.INT32, tokenizer.suppressed_ids
        )
    if is_assistant:
        keys |= text.assistant_keys(network, arch)
    rows = text.ASSISTANT_ROWS if is_assistant else text.ROWS
    return Part(
        arch=arch,
        kind="model",
        expected=expand_rows(rows, network, network.n_layer),
        ignores=text.ASSISTANT_IGNORES if is_assistant else text.IGNORES,
        normalize_name=text.normalize_name,
        generated={"rope_freqs.weight": text.rope_freqs(network)},
        keys={**keys, **_QUANTIZATION_KEYS, **tokenizer_keys(tokenizer)},
    )


def _make_mmproj_part(config: Config, folder: Path, file_type: int) -> Part:
    # The embedders of the 12B are for images and audio.
    for_images = config.embedder or config.vision
    for_audio = config.embedder or config.audio
    if for_images is None:
        missing = (
            "vision_config" if config.family != "unified" else "vision_config and audio_config"
        )
        raise UsageError(
            f"{folder} has no {missing}, so no mmproj can be made from it",
            hint=f"g4 convert {shell_word(folder)}",
        )
    mean, std = _read_pixel_mean_and_std(folder)
    keys = {
        "general.file_type": uint32_value(file_type),
        **vision.vision_keys(for_images, mean, std),
        **(audio.audio_keys(for_audio) if for_audio else {}),
        **vision.closing_keys(for_images),
        **(audio.closing_keys(for_audio) if for_audio else {}),
    }
    expected: dict[str, ExpectedTensor] = {}
    if config.embedder is not None:
        expected |= expand_rows(vision.EMBEDDER_ROWS, config.embedder, 0)
        expected |= expand_rows(audio.EMBEDDER_ROWS, config.embedder, 0)
    if config.vision is not None:
        expected |= expand_rows(vision.ENCODER_ROWS, config.vision, config.vision.n_layer)
    if config.audio is not None:
        expected |= expand_rows(audio.CONFORMER_ROWS, config.audio, config.audio.n_layer)
    return Part(
        arch="clip",
        kind="mmproj",
        expected=expected,
        ignores=vision.IGNORES,
        normalize_name=vision.normalize_name,
        generated={},
        keys={**keys, **_QUANTIZATION_KEYS},
    )


def _read_pixel_mean_and_std(folder: Path) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation of pixels, for each color.

    They come from processor_config.json, else from preprocessor_config.json. Without either they
    are 0 and 1: Gemma 4 does not normalize its pixels (image_processing_gemma4.py, transformers
    5.23.0).
    """
    scale: dict[str, Any] = {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}
    for name in ("preprocessor_config.json", "processor_config.json"):  # the later one wins
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
