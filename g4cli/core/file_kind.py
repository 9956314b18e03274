"""What a GGUF holds, by its keys: a Gemma 4 text model, an mmproj, an adapter, another model.

Sources: gguf-py/gguf/constants.py (Keys.General, GGUFType, Keys.ClipVision) and src/llama-arch.cpp,
llama.cpp@0c1e57098; the keys of an importance matrix: tools/imatrix/imatrix.cpp, ibid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, TypeAlias

from g4cli.core.errors import BadGGUF
from g4cli.core.ggml import FILE_TYPE_NAMES
from g4cli.core.gguf_header import Header
from g4cli.core.gguf_values import find_data
from g4cli.core.quoting import shell_word
from g4cli.core.sfp8 import ARCHIVE_SUFFIX, TENSORS_KEY

FileKind: TypeAlias = Literal[
    "text-model",
    "vocabulary",
    "sfp8-archive",
    "draft-model",
    "mmproj",
    "adapter",
    "imatrix",
    "other-model",
    "other-mmproj",
]

TEXT: Final = "gemma4"
DRAFT: Final = "gemma4-assistant"
MMPROJ: Final = "clip"
"""The architecture of an mmproj, of whatever model it is."""
PROJECTORS: Final = {"vision": ("gemma4v", "gemma4uv"), "audio": ("gemma4a", "gemma4ua")}
"""The projector types of Gemma 4's image and audio encoders; those with a u are the 12B's."""
# Only Gemma 4 has all of these: they identify the network where general.architecture is wrong.
_GEMMA4_TENSORS: Final = (
    "blk.0.layer_output_scale.weight",
    "rope_freqs.weight",
    "blk.0.post_ffw_norm.weight",
)

# general.architecture -> family, for common architectures; others are shown as they are.
_FAMILIES: Final = {
    "bert": "BERT",
    "command-r": "Command R",
    "deepseek2": "DeepSeek 2 or 3",
    "falcon": "Falcon",
    "gemma": "Gemma 1",
    "gemma2": "Gemma 2",
    "gemma3": "Gemma 3",
    "gemma3n": "Gemma 3n",
    "gemma-embedding": "EmbeddingGemma",
    "glm4": "GLM 4",
    "gpt-oss": "gpt-oss",
    "gpt2": "GPT-2",
    "granite": "Granite",
    "llama": "Llama",
    "llama4": "Llama 4",
    "mamba": "Mamba",
    "mistral3": "Mistral 3",
    "olmo2": "OLMo 2",
    "phi2": "Phi 2",
    "phi3": "Phi 3 or 4",
    "qwen2": "Qwen 2",
    "qwen2moe": "Qwen 2 MoE",
    "qwen2vl": "Qwen 2 VL",
    "qwen3": "Qwen 3",
    "qwen3moe": "Qwen 3 MoE",
    "smollm3": "SmolLM 3",
    "t5": "T5",
    "whisper": "Whisper",
}


def text_key(header: Header, key: str) -> str:
    """Return the string under `key`, or '' if it is absent or of another type."""
    return find_data(header.keys, key, str) or ""


def kind_of(header: Header) -> FileKind:
    """Return what the file holds. Looks at keys and tensor names only; never raises.

    A Gemma 4 network under another architecture's name is a text model with a defect, not another
    model.
    """
    architecture = text_key(header, "general.architecture")
    general_type = text_key(header, "general.type")
    if general_type == "imatrix" or "imatrix.datasets" in header.keys:
        return "imatrix"
    if general_type == "adapter" or "adapter.type" in header.keys:
        return "adapter"
    if architecture == MMPROJ or general_type == "mmproj":
        return "other-mmproj" if _is_foreign_projector(header) else "mmproj"
    if architecture == DRAFT:
        return "draft-model"
    if architecture.endswith(ARCHIVE_SUFFIX) and TENSORS_KEY in header.keys:
        return "sfp8-archive"
    if architecture == TEXT or is_renamed(header):
        return "text-model" if header.tensors else "vocabulary"
    return "other-model"


def is_renamed(header: Header) -> bool:
    """Return whether a file holds a Gemma 4 text model under the name of another architecture."""
    return any(key.startswith(f"{TEXT}.") for key in header.keys) or all(
        name in header.tensors for name in _GEMMA4_TENSORS
    )


def projector_types(header: Header) -> tuple[str, ...]:
    """Return the projector types of an mmproj: of its image encoder and its audio encoder."""
    keys = ("clip.projector_type", *(f"clip.{encoder}.projector_type" for encoder in PROJECTORS))
    return tuple(text for key in keys if (text := text_key(header, key)))


def encoded_media(header: Header) -> tuple[str, ...]:
    """Return which of 'image' and 'audio' an mmproj declares an encoder for."""
    kinds = (("vision", "image"), ("audio", "audio"))
    return tuple(m for key, m in kinds if find_data(header.keys, f"clip.has_{key}_encoder", bool))


def _is_foreign_projector(header: Header) -> bool:
    ours = {name for names in PROJECTORS.values() for name in names}
    found = projector_types(header)
    return bool(found) and ours.isdisjoint(found)


def model_text(header: Header) -> str:
    """Return the model and its type for people: 'Gemma 3 (gemma3, Q4_K_M)'."""
    architecture = text_key(header, "general.architecture")
    parts = ", ".join(part for part in (architecture, file_type_text(header)) if part)
    if not architecture:
        return "a model that does not name its architecture" + (f" ({parts})" if parts else "")
    family = _FAMILIES.get(architecture)
    return f"{family} ({parts})" if family else f"a model of the architecture {parts}"


def file_type_text(header: Header) -> str:
    """Return llama.cpp's name of general.file_type, else the type with the most bytes, or ""."""
    number = find_data(header.keys, "general.file_type", int)
    named = FILE_TYPE_NAMES.get(number) if number is not None else None
    held: dict[str, int] = {}
    for tensor in header.tensors.values():
        held[tensor.type.name] = held.get(tensor.type.name, 0) + tensor.nbytes
    return named or max(held, key=lambda name: held[name], default="")


def kind_text(header: Header) -> str:
    """Return what the file is, as the rest of a sentence that begins 'this is'."""
    kind = kind_of(header)
    if kind == "other-model" and not header.tensors:
        return f"the vocabulary of {model_text(header)}, not of Gemma 4"
    if kind == "other-model":
        return f"{model_text(header)}, not Gemma 4"
    if kind == "other-mmproj":
        names = ", ".join(projector_types(header))
        return f"the image or audio encoder (mmproj) of another model ({names}), not of Gemma 4"
    if kind == "mmproj":
        encoded = " and ".join(encoded_media(header)) or "image"
        return f"the {encoded} encoder (mmproj) of a Gemma 4 model"
    return _PLAIN_KINDS[kind]


_PLAIN_KINDS: Final = {
    "text-model": "a Gemma 4 text model",
    "vocabulary": "the vocabulary of a Gemma 4 model without its weights",
    "sfp8-archive": "an SFP8 archive of a Gemma 4 model",
    "draft-model": "a draft model of Gemma 4 (speculative decoding)",
    "adapter": "a LoRA adapter, not a whole model",
    "imatrix": "an importance matrix for quantizing, not a model",
}


def makes_embeddings(header: Header) -> bool:
    """Return whether the network turns a text into numbers instead of continuing it."""
    name = text_key(header, "general.architecture")
    is_encoder = find_data(header.keys, f"{name}.attention.causal", bool) is False
    return is_encoder or f"{name}.pooling_type" in header.keys


def command_for(header: Header) -> str:
    """Return the command that this kind of file is for; a file on the hub is called FILE in it."""
    # Imported here so that `--help` does not pay for its patterns.
    from g4cli.core.hub_address import is_on_hub

    path = "FILE" if is_on_hub(header.path) else shell_word(Path(header.path))
    commands: dict[FileKind, str] = {
        "other-model": f"llama-{'embedding' if makes_embeddings(header) else 'cli'} -m {path}",
        "other-mmproj": f"llama-mtmd-cli -m MODEL --mmproj {path}",
        "mmproj": f"g4 chat MODEL --mmproj {path}",
        "draft-model": f"g4 chat MODEL --draft {path}",
        "adapter": f"llama-cli -m MODEL --lora {path}",
        "imatrix": f"g4 quantize MODEL OUT --imatrix {path}",
        "vocabulary": "g4 list",
    }
    return commands.get(kind_of(header), f"g4 chat {path}")


def is_runnable(header: Header) -> bool:
    """Return whether g4 can run the file: a Gemma 4 text model or an SFP8 archive of one."""
    return kind_of(header) in ("text-model", "sfp8-archive")


def not_a_text_model(header: Header) -> BadGGUF:
    """Return the error for a file that was given where a Gemma 4 text model is needed."""
    kind = kind_of(header)
    limit = "; g4 runs Gemma 4 only" if kind == "other-model" else ""
    return BadGGUF(
        header.path,
        f"this is {kind_text(header)}{limit}",
        hint=command_for(header),
    )
