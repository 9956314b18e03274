"""The keys general.*: name and its parts, size label, sampling defaults, the model card.

They come from the folder's name, config.json, generation_config.json and the front matter of
README.md. Source: gguf-py/gguf/metadata.py (Metadata.load, get_model_id_components) and
gguf-py/gguf/utility.py (size_label), llama.cpp@0c1e57098.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final, NamedTuple

from g4cli.converters.checkpoint import read_json
from g4cli.converters.model_card import TEXTS, Card, read_card
from g4cli.core.errors import BadCheckpoint
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.gguf_values import (
    Value,
    ValueType,
    array_value,
    float32_value,
    int32_value,
    string_value,
    uint32_value,
)

MAX_NAME_CHARS: Final = 256  # a choice: it limits the time that regular expressions take

# key of generation_config.json, GGUF key, whether it is an integer
SAMPLING: Final = (
    ("top_k", "top_k", True),
    ("top_p", "top_p", False),
    ("min_p", "min_p", False),
    ("xtc_probability", "xtc_probability", False),
    ("xtc_threshold", "xtc_threshold", False),
    ("temperature", "temp", False),
    ("penalty_last_n", "penalty_last_n", True),
    ("repetition_penalty", "penalty_repeat", False),
    ("mirostat", "mirostat", True),
    ("mirostat_tau", "mirostat_tau", False),
    ("mirostat_eta", "mirostat_eta", False),
)


@dataclass(frozen=True, slots=True)
class NameParts:
    """The parts of a model's name: 'google/gemma-4-E2B-it' -> google, gemma, 4, E2B, it."""

    full: str | None = None
    organization: str | None = None
    basename: str | None = None
    finetune: str | None = None
    version: str | None = None
    size_label: str | None = None


def general_keys(
    folder: Path, config: Mapping[str, Any], arch: str, kind: str, specs: Sequence[TensorSpec]
) -> dict[str, Value]:
    """Return the keys general.* except file_type and quantization_version.

    `config` is the parsed config.json. `arch` and `kind` ('model' or 'mmproj') are the values of
    general.architecture and general.type; `specs` are the tensors, whose parameters are counted.
    """
    counts = count_parameters(specs)
    total = counts.total
    size = size_label(counts) if total else None
    card = read_card(folder / "README.md")
    keys = {"general.architecture": string_value(arch), "general.type": string_value(kind)}
    keys.update(_sampling_keys(read_json(folder / "generation_config.json", required=False)))
    parts = []
    origin = config.get("_name_or_path")  # OWNER/NAME, or where somebody's file was
    if isinstance(origin, str) and origin and origin.count("/") <= 1:
        parts.append(parse_name(origin, total))
    parts.append(parse_name(model_name(folder), total))
    keys.update(_description_keys(card, parts, size))
    base_models = card.find_names("base_model", "base_models", "base_model_sources")
    keys.update(_related_keys("base_model", base_models, total))
    datasets = card.find_names("datasets", "dataset", "dataset_sources")
    keys.update(_related_keys("dataset", datasets, total))
    for name, entries in (
        ("general.tags", card.join_names("tags", "pipeline_tag")),
        ("general.languages", card.join_names("languages", "language")),
    ):
        if entries:
            keys[name] = array_value(ValueType.STRING, entries)
    return keys


def _description_keys(card: Card, parts: Sequence[NameParts], size: str | None) -> dict[str, Value]:
    """Return the keys of name, author, license and sources.

    A text comes from the card, else from the first of `parts` that has it; `size` is the size label
    of the tensors, for names without one.
    """
    texts = {name: card.find_text(name) for name in TEXTS}
    names = (title_case(part.full) for part in parts if part.full)
    texts["name"] = texts["name"] or next(names, None) or "model"
    owners = (title_case(part.organization) for part in parts if part.organization is not None)
    texts["organization"] = texts["organization"] or next(owners, None)
    for name in ("version", "finetune", "basename", "size_label"):
        found = (texts[name], *(getattr(part, name) for part in parts))
        texts[name] = next((text for text in found if text is not None), None)
    texts["size_label"] = texts["size_label"] or size
    return {
        f"general.{name}": string_value(text) for name, text in texts.items() if text is not None
    }


def model_name(folder: Path) -> str:
    """Return the name of the model in `folder`: that of the folder or, in a hub cache, of the repo.

    models--OWNER--REPO/snapshots/COMMIT and OWNER--REPO/COMMIT give REPO. llama.cpp's converter
    takes COMMIT, which is not a useful name.
    """
    path = folder.resolve()
    above = path.parent.parent if path.parent.name == "snapshots" else path.parent
    if re.fullmatch("[0-9a-f]{12,64}", path.name) and "--" in above.name:
        return above.name.rsplit("--", 1)[1] or path.name
    return path.name


def _sampling_keys(settings: Mapping[str, Any]) -> dict[str, Value]:
    """Return the keys general.sampling.* from `settings`, the parsed generation_config.json."""
    keys: dict[str, Value] = {}
    for source, target, whole in SAMPLING:
        value = settings.get(source)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if not abs(value) < 1 << 31:  # beyond an int32, or NaN
                raise BadCheckpoint(f"generation_config.json: {source} is {value!r}")
            keys[f"general.sampling.{target}"] = (
                int32_value(int(value)) if whole else float32_value(float(value))
            )
    return keys


def _related_keys(kind: str, names: Sequence[str] | None, total: int) -> dict[str, Value]:
    """Return the keys general.base_model.* or general.dataset.* for `names`; none for None.

    A name is 'org/name', a repository on the hub, or the address of a repository elsewhere.
    """
    if names is None:
        return {}
    keys = {f"general.{kind}.count": uint32_value(len(names))}
    for number, name in enumerate(names):
        parts, address = NameParts(), None
        if name.startswith(("http://", "https://", "ssh://")):
            address = name
            match = re.match(r"https?://huggingface.co/([^/]+/[^/]+)$", name)
            if match:
                parts = parse_name(match[1], total)
        else:
            parts = parse_name(name, total)
            if parts.organization is not None and parts.full is not None:
                address = f"https://huggingface.co/{parts.organization}/{parts.full}"
        for key, text in (
            ("name", title_case(parts.full)),
            ("version", parts.version),
            ("organization", title_case(parts.organization)),
            ("repo_url", address),
        ):
            if text is not None:
                keys[f"general.{kind}.{number}.{key}"] = string_value(text)
    return keys


class ParameterCounts(NamedTuple):
    """Numbers of parameters: all, those outside of experts, those of one expert; and of experts."""

    total: int
    shared: int
    one_expert: int
    n_expert: int


def count_parameters(specs: Sequence[TensorSpec]) -> ParameterCounts:
    """Return the numbers of parameters of the tensors `specs`."""
    total = shared = one_expert = expert_sum = n_tensors = 0
    for spec in specs:
        size = prod(spec.shape)
        total += size
        if "_exps." in spec.name and len(spec.shape) >= 3:
            one_expert += size // spec.shape[2]
            expert_sum += spec.shape[2]
            n_tensors += 1
        else:
            shared += size
    n_expert = expert_sum // n_tensors if n_tensors else 0
    return ParameterCounts(total, shared, one_expert, n_expert)


def size_label(counts: ParameterCounts) -> str:
    """Return '4.6B', or '128x2.6B' for 128 experts: the parameters that a network with one has."""
    if not counts.n_expert:
        return _round_count(counts.total)
    return f"{counts.n_expert}x{_round_count(counts.shared + counts.one_expert)}"


# from this count on, factor, unit
_SCALES: Final = ((1e12, 1e-12, "T"), (1e9, 1e-9, "B"), (1e6, 1e-6, "M"))


def _round_count(count: int) -> str:
    """Return `count` with its unit, in two significant digits where it is below 10 units."""
    # Multiplied, not divided, as gguf-py does: the last digit must be the same.
    value, unit = next(
        ((count * scale, unit) for limit, scale, unit in _SCALES if count > limit),
        (count * 1e-3, "K"),
    )
    digits = max(2 - len(str(round(value)).lstrip("0")), 0)
    return f"{value:.{digits}f}{unit}"


def title_case(name: str | None) -> str | None:
    """Return 'gemma-4-E2B-it' as 'Gemma 4 E2B It': versions and mixed case stay as they are."""
    if name is None:
        return None
    words = name.strip().replace("-", " ").split()
    return " ".join(
        w.title() if w.islower() and not re.match(r"^(v\d+(?:\.\d+)*|\d.*)$", w) else w
        for w in words
    )


def parse_name(name: str, total: int) -> NameParts:
    """Return the parts of the name of a repository or folder.

    `total`, the number of parameters, tells a size from a context length.
    """
    if " " in name or len(name) > MAX_NAME_CHARS:
        return NameParts(full=name)
    organization, full = name.split("/", 1) if "/" in name else (None, name)
    if organization is not None and organization.startswith("."):
        organization = None
    words = [word for word in full.split("-") if word]
    parts = [_classify_word(index, word, total) for index, word in enumerate(words)]
    # Where some size has a digit ("7B"), words such as "large" are no sizes.
    if any(c.isdecimal() for word, kinds in parts if "size_label" in kinds for c in word):
        for word, kinds in parts:
            if word.isalpha():
                kinds.discard("size_label")
    _find_basename(parts)

    def join_words(kind: str, without: str = "") -> str | None:
        chosen = [word for word, kinds in parts if kind in kinds and without not in kinds]
        return "-".join(dict.fromkeys(chosen) if kind == "size_label" else chosen) or None

    size, finetune = join_words("size_label"), join_words("finetune")
    version = join_words("version", without="basename")
    # As in gguf-py: a name without any other part is not taken apart.
    is_whole = size is None and finetune is None and version is None
    return NameParts(
        full, organization, None if is_whole else join_words("basename"), finetune, version, size
    )


def _find_basename(parts: Sequence[tuple[str, set[str]]]) -> None:
    """Add "basename" to the kinds of the first words, "finetune" to those of later ones of no kind.

    The basename is made of words of no kind and of versions, but a version at the end of the name
    is no part of it: "gemma-4-E2B-it-v2" has the basename "gemma-4-E2B-it" and the version "v2".
    """
    at_start = True
    for word, kinds in parts:
        if at_start and ((not kinds and word[0].isalpha()) or "version" in kinds):
            kinds.add("basename")
        else:
            at_start = False
            if not kinds:
                kinds.add("finetune")
    for _, kinds in reversed(parts):
        if "basename" not in kinds or len(kinds) == 1:
            break
        kinds.remove("basename")


_VERSION: Final = re.compile(r"(v|iter)?\d+([.]\d+)*", re.IGNORECASE)
_TYPE: Final = re.compile(r"i?q\d(_\w)*|b?fp?(16|32)", re.IGNORECASE)
_SIZE: Final = re.compile(  # 7B, 8x7B (experts), A4B (active parameters), 7b1 (7.1 billion), large
    r"(([A]|\d+[x])?\d+([._]\d+)?[KMBT][\d]?|small|mini|medium|large|x?xl)", re.IGNORECASE
)


def _classify_word(index: int, word: str, total: int) -> tuple[str, set[str]]:
    """Return word number `index` of a name, normalized, and what it may be, {} if that is open.

    The kinds are version, type, size_label and finetune. `total` is the number of parameters.
    """
    if _VERSION.fullmatch(word):
        return word, {"version"}
    if _TYPE.fullmatch(word):
        return word.upper(), {"type"}
    if index and _SIZE.fullmatch(word):
        word = word.replace("_", ".")
        if word[-1].isdecimal():  # 7b1 is 7.1b
            word = word[:-2] + "." + word[-1] + word[-2]
        if len(word) > 1 and word[-2].isdecimal() and word[-1] in "kmbt":
            word = word[:-1] + word[-1].upper()
        if total:
            try:
                claimed = float(word[:-1]) * 1000 ** " KMBT".find(word[-1])
            except ValueError:  # such as A4B, 8x7B and large
                return word, {"size_label"}
            # gguf-py's rule: a number so far from the size is a context length, such as 128k.
            if abs(claimed - total) > 7 * total // 8:
                return word[:-1] + word[-1].lower(), {"finetune"}
        return word, {"size_label"}
    if index and re.fullmatch("chat|instruct|vision|lora", word, re.IGNORECASE):
        return word, {"finetune"}
    return word, set()
