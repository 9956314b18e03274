"""Describe a header as text and as JSON, as `g4 show` prints it. Only the header is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any, Final

from g4cli.core.errors import BadGGUF
from g4cli.core.file_kind import kind_of, kind_text, text_key
from g4cli.core.ggml import GGMLType
from g4cli.core.gguf_header import Header, TensorInfo
from g4cli.core.gguf_values import Array, Value
from g4cli.core.quoting import shell_command
from g4cli.core.shape import Shape, shape_of
from g4cli.core.template_child import TEMPLATE_KEY
from g4cli.core.units import count_text, size_text
from g4cli.prompt.published_templates import (
    describe_published,
    find_published,
    hash_template,
)
from g4cli.store.manifest import Entry, role_of, type_of

# Choices: what fits a screen, and a line of a terminal.
_LONG_ARRAY: Final = 64  # items: of longer arrays only the first _SHOWN_ITEMS are shown
_SHOWN_ITEMS: Final = 8
_SHOWN_CHARS: Final = 120  # of a longer text
_SHOWN_RUNS: Final = 4  # runs of layers with the same number: of more, only the range is shown

# Kinds of files (core/file_kind.py) that need no note: other lines show what they are.
_OBVIOUS_KINDS: Final = ("text-model", "sfp8-archive", "mmproj", "draft-model")
_USES: Final = {
    "mmproj": "images and audio, with a model",
    "draft": "speculative decoding, with a model",
    "part": "a later part of a split file",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its lines (label, text)."""

    title: str
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class TypeShare:
    """How much of the file one tensor type holds; `share` is its part of all bytes, 0 to 1."""

    type: GGMLType
    n_tensors: int
    n_params: int
    nbytes: int
    share: float


def header_to_json(header: Header, *, full: bool = False) -> dict[str, Any]:
    """Return the header as JSON values.

    An array of more than 64 items is `{"item_type", "count", "first": [8 items]}` unless `full`.
    """
    architecture = header.keys.get("general.architecture")
    return {
        "architecture": str(architecture.data) if architecture else "",
        "type": type_of(header),
        "path": header.path,
        "bytes": header.file_size,
        "version": header.version,
        "alignment": header.alignment,
        "keys": {name: _json_value(value, full) for name, value in header.keys.items()},
        "tensors": [
            {"name": t.name, "type": t.type.name, "shape": list(t.shape), "bytes": t.nbytes}
            for t in header.tensors.values()
        ],
    }


def _json_value(value: Value, full: bool) -> Any:
    data = value.data
    if not isinstance(data, Array):
        return data
    if full or len(data) <= _LONG_ARRAY:
        return data.tolist()
    return {
        "item_type": data.item_type.name.lower(),
        "count": len(data),
        "first": data.first_items(_SHOWN_ITEMS),
    }


def format_value(value: Value) -> str:
    """Return a value on one line; long texts and arrays are shortened and their lengths given."""
    data = value.data
    if isinstance(data, Array):
        items = ", ".join(map(_format_item, data.first_items(_SHOWN_ITEMS)))
        return (
            f"[{_shorten_text(items)}{', ...' * (len(data) > _SHOWN_ITEMS)}] "
            f"({count_text(len(data), 'item')})"
        )
    text = _format_item(data)
    short = _shorten_text(text)
    return text if short == text else f"{short} ({len(text):,} characters)"


def _format_item(item: Any) -> str:
    if isinstance(item, float):
        return f"{item:.7g}"  # float32 holds no more
    return str(item).replace("\\", "\\\\").replace("\n", "\\n")


def _shorten_text(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def count_type_shares(header: Header) -> tuple[TypeShare, ...]:
    """Return the tensor types of the file, the largest share first; () without any."""
    by_type: dict[GGMLType, list[TensorInfo]] = {}
    for tensor in header.tensors.values():
        by_type.setdefault(tensor.type, []).append(tensor)
    total = sum(t.nbytes for t in header.tensors.values())
    shares = []
    for kind, tensors in by_type.items():
        nbytes = sum(t.nbytes for t in tensors)
        n_params = sum(prod(t.shape) for t in tensors)
        shares.append(TypeShare(kind, len(tensors), n_params, nbytes, nbytes / total))
    return tuple(sorted(shares, key=lambda share: -share.nbytes))


def summarize_header(header: Header, entry: Entry | None = None) -> tuple[Section, ...]:
    """Return the sections of `g4 show`: file, network, text."""
    sections = [Section("File", tuple(_file_lines(header, entry)))]
    try:
        shape: Shape | None = shape_of(header)
    except BadGGUF:
        shape = None  # another architecture: the other sections are shown
    if shape:
        sections.append(Section("Network", tuple(_network_lines(shape))))
    sections.append(Section("Text", tuple(_text_lines(header))))
    return tuple(section for section in sections if section.lines)


def _file_lines(header: Header, entry: Entry | None) -> Iterator[tuple[str, str]]:
    if entry:
        yield "model", entry.title
        yield "from", entry.origin
    yield "path", header.path
    yield "size", f"{size_text(header.file_size)} ({header.file_size:,} bytes)"
    name = text_key(header, "general.name")
    architecture = text_key(header, "general.architecture") or "not named"
    yield "architecture", f"{architecture}, {name}" if name else architecture
    shares = count_type_shares(header)
    detail = "no weights"
    if n_params := sum(share.n_params for share in shares):
        bits = 8 * sum(share.nbytes for share in shares) / n_params
        detail = f"{n_params:,} weights, {bits:.2f} bits each"
    yield "type", f"{type_of(header)}, {detail}"
    n_keys = count_text(len(header.keys), "key")
    n_tensors = count_text(len(header.tensors), "tensor")
    yield "format", f"GGUF {header.version}, {n_keys}, {n_tensors}"
    if role_of(header) != "model":
        yield "use", _USES[role_of(header)]
    if kind_of(header) not in _OBVIOUS_KINDS:
        yield "note", f"this is {kind_text(header)}"
    if header.trailing_bytes > 0:
        command = shell_command("g4", "doctor", header.path)
        extra = count_text(header.trailing_bytes, "byte", "follow")
        yield "note", f"{extra} the data ({command})"


def _network_lines(shape: Shape) -> Iterator[tuple[str, str]]:
    n_swa = sum(shape.is_swa)
    yield "context", f"{shape.n_ctx_train:,} tokens"
    kinds = f"{n_swa} sliding (window {shape.n_swa}), {shape.n_layer - n_swa} global"
    shared = f"; the last {shape.n_shared_kv} share K and V" if shape.n_shared_kv else ""
    yield "layers", f"{shape.n_layer}: {kinds}{shared}"
    per_layer = f", {shape.n_embd_per_layer} per layer" if shape.n_embd_per_layer else ""
    yield "embedding", f"{shape.n_embd}{per_layer}"
    heads = (
        f"{_format_runs(shape.n_head)} heads, {_format_by_kind(shape, shape.n_head_kv)} for K and V"
    )
    head_dims = [shape.head_dim_of(layer) for layer in range(shape.n_layer)]
    yield "attention", f"{heads}; head size {_format_by_kind(shape, head_dims)}"
    yield "feed-forward", _format_runs(shape.n_ff)
    if shape.n_expert:
        yield (
            "experts",
            f"{shape.n_expert}, {shape.n_expert_used} used per token; "
            f"feed-forward {shape.n_ff_expert} each",
        )


def _text_lines(header: Header) -> Iterator[tuple[str, str]]:
    tokens = header.keys.get("tokenizer.ggml.tokens")
    if tokens and isinstance(tokens.data, Array):
        ids = ", ".join(
            f"{word} {value.data}"
            for word in ("bos", "eos", "padding")
            if (value := header.keys.get(f"tokenizer.ggml.{word}_token_id"))
            and isinstance(value.data, int)
        )
        model = text_key(header, "tokenizer.ggml.model") or "unnamed"
        yield "vocabulary", f"{len(tokens.data):,} tokens, {model}" + (f" ({ids})" if ids else "")
    template = text_key(header, TEMPLATE_KEY)
    if template:
        yield "template", f"{_name_template(template)}, {len(template):,} characters"
    for key, label in (("general.license", "license"), ("g4.format", "contents")):
        if text := text_key(header, key):
            yield label, text


def _name_template(template: str) -> str:
    published = find_published(template)
    if published is None:
        return f"its own (sha256 {hash_template(template)[:12]})"
    return describe_published(published) + ("" if published.is_current else "; outdated")


def _format_by_kind(shape: Shape, values: Sequence[int]) -> str:
    """Return '256 sliding, 512 global', or one number where all layers agree."""
    if len(set(values)) == 1:
        return _format_runs(values)
    parts = []
    for is_swa, word in ((True, "sliding"), (False, "global")):
        own = [v for v, swa in zip(values, shape.is_swa, strict=True) if swa is is_swa]
        if own:
            parts.append(f"{_format_runs(own)} {word}")
    return ", ".join(parts)


def _format_runs(values: Sequence[int]) -> str:
    """Return '6144 (15 layers), 12288 (20)', or the number alone where all agree."""
    if len(set(values)) == 1:
        return str(values[0])
    runs = [(value, len(list(group))) for value, group in groupby(values)]
    if len(runs) > _SHOWN_RUNS:
        return f"{min(values)} to {max(values)}"
    return ", ".join(
        f"{value} ({count}{' layers' * (not i)})" for i, (value, count) in enumerate(runs)
    )
