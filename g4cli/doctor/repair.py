"""Mend what metadata alone can mend, in a new file; say what cannot be mended, with the bytes to fetch.

The data of tensors is copied untouched, but for the RoPE table, which follows from the shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from g4cli.core.errors import BadGGUF, UsageError
from g4cli.core.file_kind import kind_of, kind_text
from g4cli.core.ggml import BY_NAME
from g4cli.core.gguf import read_header
from g4cli.core.gguf_data import iter_tensor
from g4cli.core.gguf_header import Header
from g4cli.core.gguf_values import Array, Value, ValueType, array, boolean, f32, string, u32
from g4cli.core.gguf_write import TensorSpec, create_gguf, prove
from g4cli.core.inventory import ROPE_FREQS
from g4cli.core.paths import tiny_dir
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_command
from g4cli.core.registry import MODELS
from g4cli.core.shape import Shape, shape_of
from g4cli.doctor.checks.keys import VALUES, claimed
from g4cli.doctor.checks.template import KEY as TEMPLATE
from g4cli.doctor.checks.tokenizer import CONTROL, IDS, SUPPRESSED, TOKEN_TYPES
from g4cli.doctor.verdict import PRECEDENCE

if TYPE_CHECKING:
    from g4cli.doctor.report import Finding, Report

_T: Final = "tokenizer.ggml."
_EMPTY_THOUGHT: Final = "{{- '' if thinking else '<|channel>thought\\n<channel|>' -}}"
_LARGE: Final = ("12b", "26b", "31b")


# The kinds of files whose metadata g4 can mend.
MENDABLE: Final = ("text-model", "vocabulary", "sfp8-archive")


@dataclass(frozen=True, slots=True)
class Mended:
    """One change of a copy: the check that failed, and what was changed."""

    check: str
    text: str


@dataclass(frozen=True, slots=True)
class Repair:
    """What was mended, and what no change of metadata mends: byte ranges (first, last) to fetch again."""

    path: Path
    done: tuple[Mended, ...]
    ranges: tuple[tuple[int, int], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the repair as scripts see it."""
        return {
            "path": str(self.path) if self.done else None,
            "done": [f"{mended.check}: {mended.text}" for mended in self.done],
            "ranges": [list(r) for r in self.ranges],
        }


def repair(
    report: Report, source: Path, target: Path, *, progress: Progress = no_progress
) -> Repair:
    """Return what was mended in a copy of `source` at `target`; nothing is written if nothing can be.

    `report` is the diagnosis of `source`. Raises UsageError if `target` exists or the file is no Gemma 4
    text model, BadGGUF if the header cannot be read, NoSpace.
    """
    require_new(target)
    failed = {f.id: f for f in report.findings if f.status in ("fail", "warn")}
    header = read_header(source, check_data=False)
    if kind_of(header) not in MENDABLE:
        raise UsageError(
            f"{source}: this is {kind_text(header)}; --fix repairs the metadata of Gemma 4 text models",
            hint=shell_command("g4", "doctor", source),
        )
    ranges = missing_ranges(header, failed)
    keys, done = dict(header.keys), list[Mended]()
    for mend in _MENDERS:
        mend(header, keys, failed, done)
    table = _rope_table(header, keys, failed, done)
    if not done or ("file.size" in failed and ranges):
        return Repair(target, (), ranges)
    specs = [TensorSpec(t.name, t.type, t.shape) for t in header.tensors.values()]
    if table is not None and ROPE_FREQS not in header.tensors:
        specs.insert(0, TensorSpec(ROPE_FREQS, BY_NAME["F32"], (len(table) // 4,)))
    with create_gguf(target, keys, specs, progress=progress) as writer:
        for spec in specs:
            for piece in _pieces(header, spec, table):
                writer.write(piece)
        written = writer.finish()
    prove(written, specs)
    return Repair(target, tuple(done), ranges)


def require_new(target: Path) -> None:
    """Raise UsageError if there is a file at `target`: a repaired copy replaces none."""
    if target.exists():
        raise UsageError(
            f"{target} exists: the repaired copy needs a name of its own",
            hint="g4 doctor FILE --fix FIXED.gguf",
        )


def is_better(after: Report, before: Report) -> bool:
    """Return whether a mended copy is worth keeping: its verdict is better, or it has fewer warnings."""
    return _badness(after) < _badness(before)


def _badness(report: Report) -> tuple[int, int]:
    """Return the rank of the verdict (0 without a fault; an earlier cause is worse), then the warnings."""
    if not report.exit_code:
        doubtful = report.verdict == "unknown"
        return int(doubtful), sum(f.status == "warn" for f in report.findings)
    causes = PRECEDENCE[::-1]
    return 2 + (causes.index(report.verdict) if report.verdict in causes else 0), 0


def missing_ranges(header: Header, failed: dict[str, Finding]) -> tuple[tuple[int, int], ...]:
    """Return the byte ranges (first, last) to fetch again: behind the end, or tensors with damaged data."""
    if header.data_end > header.file_size:
        return ((header.file_size, header.data_end - 1),)
    names = [
        n
        for i in ("weights.zero", "weights.finite", "weights.scales")
        if i in failed
        for n in failed[i].detail
    ]
    damaged = [header.tensors[n] for n in dict.fromkeys(names) if n in header.tensors]
    return tuple((header.file_offset(t), header.file_offset(t) + t.nbytes - 1) for t in damaged)


def _pieces(header: Header, spec: TensorSpec, table: bytes | None) -> Iterator[bytes]:
    if spec.name == ROPE_FREQS and table is not None:
        yield table
    else:
        yield from iter_tensor(header, header.tensors[spec.name])


Failed = dict[str, Any]
Keys = dict[str, Value]


def _mend_template(header: Header, keys: Keys, failed: Failed, done: list[Mended]) -> None:
    bad = [
        i
        for i in ("template.present", "template.safe", "template.rendering", "template.known")
        if i in failed
    ]
    if not bad or _T + "tokens" not in keys:
        return
    text = (tiny_dir() / "chat_template.jinja").read_text(encoding="utf-8")
    shape = _shape(header)
    if claimed(shape) in _LARGE:
        opened = "    {{- '<|turn>model\\n' -}}\n"
        text = text.replace(
            opened + "{%- endif -%}", f"{opened}    {_EMPTY_THOUGHT}\n{{%- endif -%}}"
        )
    keys[TEMPLATE] = string(text)
    done += [Mended(i, "g4's own Gemma 4 template is in its place") for i in bad]


def _mend_values(_header: Header, keys: Keys, failed: Failed, done: list[Mended]) -> None:
    if "keys.values" not in failed:
        return
    for key, number, _ in VALUES:
        keys[key] = f32(number)
    for name in ("type", "factor", "original_context_length", "finetuned"):
        keys.pop(f"gemma4.rope.scaling.{name}", None)
    done.append(Mended("keys.values", "norm epsilon, RoPE bases and softcap are Gemma 4's again"))


def _mend_tokenizer(_header: Header, keys: Keys, failed: Failed, done: list[Mended]) -> None:
    merges = keys.get(_T + "merges")
    if (
        "tokenizer.model" in failed
        and merges is not None
        and isinstance(merges.data, Array)
        and len(merges.data)
    ):
        keys[_T + "model"] = string("gemma4")
        keys.pop(_T + "pre", None)
        done.append(Mended("tokenizer.model", "the tokenizer is gemma4"))
    if "tokenizer.ids" in failed:
        for name, number in IDS:
            keys[_T + name] = u32(number)
        keys[_T + "add_bos_token"] = boolean(True)
        keys[_T + "add_space_prefix"] = boolean(False)
        done.append(Mended("tokenizer.ids", "special ids and switches are Gemma 4's"))
    if "tokenizer.suppressed" in failed:
        keys[_T + "suppress_tokens"] = array(ValueType.INT32, list(SUPPRESSED))
        done.append(Mended("tokenizer.suppressed", "the list is back"))


def _mend_types(_header: Header, keys: Keys, failed: Failed, done: list[Mended]) -> None:
    tokens, types = keys.get(_T + "tokens"), keys.get(_T + "token_type")
    finding = failed.get("tokenizer.control")
    if finding is None or finding.code != TOKEN_TYPES or tokens is None or types is None:
        return
    if not isinstance(tokens.data, Array) or not isinstance(types.data, Array):
        return
    numbers = types.data.numpy().astype(np.int32).copy()
    for token, text, kind in CONTROL:
        if token < len(numbers) and text:
            numbers[token] = kind
    for i, text_bytes in enumerate(tokens.data.byte_strings()):
        if (
            len(text_bytes) == 6
            and text_bytes.startswith(b"<0x")
            and text_bytes.endswith(b">")
            and i < len(numbers)
        ):
            numbers[i] = 6
    keys[_T + "token_type"] = array(ValueType.INT32, numbers)
    done.append(Mended("tokenizer.control", "control and byte tokens have their types again"))


def _mend_shape(header: Header, keys: Keys, failed: Failed, done: list[Mended]) -> None:
    """Fill keys that are missing or wrong from the table, if the tensors are those of that size."""
    bad = [i for i in ("keys.architecture", "keys.shape", "tensors.inventory") if i in failed]
    if not bad:
        return
    for model in MODELS:
        s = model.shape
        embedding = header.tensors.get("token_embd.weight")
        deepest = f"blk.{s.n_layer - 1}.attn_norm.weight"
        next_one = f"blk.{s.n_layer}.attn_norm.weight"
        if (
            embedding is None
            or embedding.shape[0] != s.n_embd
            or deepest not in header.tensors
            or next_one in header.tensors
            or embedding.shape[1] != s.n_vocab
        ):
            continue
        wanted = {"general.architecture": string("gemma4"), **_shape_keys(s, keys)}
        if any(k not in keys or keys[k].data != v.data for k, v in wanted.items()):
            keys.update(wanted)
            done.append(Mended(bad[0], f"keys are those of {model.name}"))
        return


def _shape_keys(s: Shape, keys: Keys) -> Keys:
    g = "gemma4."
    per_layer: tuple[tuple[str, tuple[int, ...]], ...] = (
        ("feed_forward_length", s.n_ff),
        ("attention.head_count", s.n_head),
        ("attention.head_count_kv", s.n_head_kv),
    )
    found: Keys = {
        g + name: u32(items[0]) if len(set(items)) == 1 else array(ValueType.INT32, list(items))
        for name, items in per_layer
    }
    numbers = {
        "block_count": s.n_layer,
        "embedding_length": s.n_embd,
        "attention.key_length": s.head_dim,
        "attention.value_length": s.head_dim,
        "attention.key_length_swa": s.head_dim_swa,
        "attention.value_length_swa": s.head_dim_swa,
        "attention.sliding_window": s.n_swa,
        "attention.shared_kv_layers": s.n_shared_kv,
        "rope.dimension_count": s.head_dim,
        "rope.dimension_count_swa": s.head_dim_swa,
        "embedding_length_per_layer_input": s.n_embd_per_layer,
    }
    if s.n_expert:
        numbers |= {
            "expert_count": s.n_expert,
            "expert_used_count": s.n_expert_used,
            "expert_feed_forward_length": s.n_ff_expert,
        }
    found |= {g + name: u32(number) for name, number in numbers.items()}
    found[g + "attention.sliding_window_pattern"] = array(ValueType.BOOL, list(s.is_swa))
    if g + "context_length" not in keys:
        found[g + "context_length"] = u32(s.n_ctx_train)
    return found


_MENDERS: Final[tuple[Callable[[Header, Keys, Failed, list[Mended]], None], ...]] = (
    _mend_shape, _mend_values, _mend_tokenizer, _mend_types, _mend_template,
)  # fmt: skip


def _rope_table(header: Header, keys: Keys, failed: Failed, done: list[Mended]) -> bytes | None:
    """Return the RoPE table of the shape if the file's is wrong or missing."""
    absent = ROPE_FREQS not in header.tensors
    only_this = (
        absent
        and "tensors.inventory" in failed
        and failed["tensors.inventory"].detail == (ROPE_FREQS,)
    )
    width = keys.get("gemma4.attention.key_length")
    if (
        not ("weights.rope" in failed or only_this)
        or width is None
        or not isinstance(width.data, int)
    ):
        return None
    if failed.get("weights.rope") is not None and failed["weights.rope"].cause == "file-damaged":
        return None
    n = width.data // 2
    if not absent and header.tensors[ROPE_FREQS].nbytes != 4 * n:
        return None
    check = "tensors.inventory" if only_this else "weights.rope"
    done.append(Mended(check, "the RoPE table is Gemma 4's"))
    return np.array([1.0] * (n // 4) + [1e30] * (n - n // 4), dtype="<f4").tobytes()


def _shape(header: Header) -> Shape | None:
    try:
        return shape_of(header)
    except BadGGUF:
        return None
