"""Write a copy of a file with repaired metadata, and name the bytes to download again (`--fix`).

`operations/diagnose.py` calls `repair_file` with the report on the file, and diagnoses the copy
again. What is repaired are keys that follow from what is certain in the file: the names and shapes
of its tensors tell which model it is, and a published model has known keys. The data of tensors is
copied unchanged, except for the RoPE table, which follows from the shape too. Damaged weights can
only be downloaded again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from g4cli.core.errors import BadGGUF, UsageError
from g4cli.core.file_kind import kind_of, kind_text
from g4cli.core.files import is_there, require_file_target
from g4cli.core.ggml import BY_NAME
from g4cli.core.gguf import iter_tensor, read_header
from g4cli.core.gguf_header import Header, TensorSpec
from g4cli.core.gguf_values import (
    Value,
    ValueType,
    array_value,
    bool_value,
    find_data,
    float32_value,
    string_value,
    uint32_value,
)
from g4cli.core.gguf_write import create_gguf
from g4cli.core.inventory import ROPE_FREQS, TOKEN_EMBD
from g4cli.core.paths import tiny_dir
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_command
from g4cli.core.registry import MODELS, Model
from g4cli.core.shape import Shape, shape_of
from g4cli.core.template_child import TEMPLATE_KEY
from g4cli.doctor.checks.tokenizer import TOKEN_TYPES
from g4cli.doctor.facts.vocabulary import find_array
from g4cli.doctor.reference import (
    BYTE_TYPE,
    CONSTANT_KEYS,
    CONTROL_TOKENS,
    EMPTY_THOUGHT_MODELS,
    SPECIAL_IDS,
    SUPPRESSED_TOKENS,
    TOKENIZER,
    find_model_name,
    make_rope_table,
)
from g4cli.doctor.report import Finding, Report
from g4cli.doctor.verdict import PRECEDENCE

# The end of the bundled model's template: what begins an answer; and the line that the larger
# models need there (reference.EMPTY_THOUGHT_MODELS).
_ANSWER_BEGINS: Final = "    {{- '<|turn>model\\n' -}}\n"
_EMPTY_THOUGHT: Final = "    {{- '' if thinking else '<|channel>thought\\n<channel|>' -}}\n"

_BYTE_TOKEN: Final = re.compile(rb"<0x..>", re.DOTALL)

# The kinds of files (core.file_kind) whose metadata g4 can repair.
REPAIRABLE: Final = ("text-model", "vocabulary", "sfp8-archive")

Failed: TypeAlias = Mapping[str, Finding]
"""The findings that failed or warned, by the id of their check."""
Keys: TypeAlias = dict[str, Value]
"""The keys of the copy, which repairs change in place."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change in the copy: `check` is the id of the check that failed, `text` what was done."""

    check: str
    text: str


@dataclass(frozen=True, slots=True)
class Repair:
    """The changes in the copy at `path`, () if none was written.

    `ranges` are the ranges of bytes of the source to download again: (first, last), both included,
    as HTTP writes them.
    """

    path: Path
    changes: tuple[Change, ...]
    ranges: tuple[tuple[int, int], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the repair as docs/reference/schemas/doctor.json describes it."""
        return {
            "path": str(self.path) if self.changes else None,
            "done": [f"{change.check}: {change.text}" for change in self.changes],
            "ranges": [list(r) for r in self.ranges],
        }


def repair_file(
    report: Report, source: Path, target: Path, *, progress: Progress = no_progress
) -> Repair:
    """Return the changes in a copy of `source` at `target`; without changes nothing is written.

    `report` is the diagnosis of `source`. Raises UsageError if `target` exists or `source` is not a
    Gemma 4 text model, BadGGUF if the header cannot be read, and NoSpace if the copy does not fit.
    """
    require_new_file(target)
    failed = {f.id: f for f in report.findings if f.status in ("fail", "warn")}
    header = read_header(source, check_data=False)
    if kind_of(header) not in REPAIRABLE:
        raise UsageError(
            f"{source}: this is {kind_text(header)}; --fix repairs Gemma 4 text models",
            hint=shell_command("g4", "doctor", source),
        )
    ranges = _find_bad_ranges(header, failed)
    keys = dict(header.keys)
    changes = [change for repair in _REPAIRS for change in repair(header, keys, failed)]
    rope_table, rope_changes = _repair_rope_table(header, keys, failed)
    changes += rope_changes
    # A truncated file is completed first: a copy would lack the same bytes.
    if not changes or ("file.size" in failed and ranges):
        return Repair(target, (), ranges)
    specs: list[TensorSpec] = list(header.tensors.values())
    if rope_table is not None and ROPE_FREQS not in header.tensors:
        # In front of the others, where llama.cpp's converter writes it.
        specs.insert(0, TensorSpec(ROPE_FREQS, BY_NAME["F32"], (len(rope_table) // 4,)))
    with create_gguf(target, keys, specs, progress=progress) as writer:
        for spec in specs:
            if spec.name == ROPE_FREQS and rope_table is not None:
                writer.write(rope_table)
                continue
            for piece in iter_tensor(header, header.tensors[spec.name]):
                writer.write(piece)
        writer.finish()
    return Repair(target, tuple(changes), ranges)


def require_new_file(target: Path) -> None:
    """Raise UsageError if `target` exists, as a copy replaces no file, or cannot be written."""
    if is_there(target):
        require_file_target(target)
        raise UsageError(
            f"{target} exists: the repaired copy needs the name of a new file",
            hint="g4 doctor FILE --fix FIXED.gguf",
        )


def is_better(after: Report, before: Report) -> bool:
    """Return whether a repaired copy has a better verdict than its source, or fewer warnings."""
    return _rank_report(after) < _rank_report(before)


def _rank_report(report: Report) -> tuple[int, int]:
    """Return (rank of the verdict, number of warnings): the lower, the better.

    The rank is 0 for a report without a failure, 1 if its verdict is "unknown" all the same, and
    from 2 on for failures: the more other faults a cause explains (PRECEDENCE), the higher. The
    warnings count only where nothing failed.
    """
    if not report.exit_code:
        is_doubtful = report.verdict == "unknown"
        return int(is_doubtful), sum(f.status == "warn" for f in report.findings)
    mildest_first = PRECEDENCE[::-1]
    return 2 + (mildest_first.index(report.verdict) if report.verdict in mildest_first else 0), 0


def _find_bad_ranges(header: Header, failed: Failed) -> tuple[tuple[int, int], ...]:
    """Return the byte ranges (first, last) to download again: missing data, or damaged tensors."""
    if header.data_end > header.file_size:
        return ((header.file_size, header.data_end - 1),)
    checks = ("weights.zero", "weights.finite", "weights.scales")  # their details name tensors
    names = [name for check in checks if check in failed for name in failed[check].detail]
    damaged = [header.tensors[n] for n in dict.fromkeys(names) if n in header.tensors]
    return tuple((header.file_offset(t), header.file_offset(t) + t.nbytes - 1) for t in damaged)


def _repair_template(header: Header, keys: Keys, failed: Failed) -> list[Change]:
    checks = ("template.present", "template.safe", "template.rendering", "template.revision")
    bad = [check for check in checks if check in failed]
    if not bad or TOKENIZER + "tokens" not in keys:
        return []  # without tokens there is nothing that a prompt could become
    text = (tiny_dir() / "chat_template.jinja").read_text(encoding="utf-8")
    model = _find_model_by_tensors(header)  # its keys may be wrong too
    name = model.name if model else find_model_name(_read_shape(header))
    if name in EMPTY_THOUGHT_MODELS:
        end = "{%- endif -%}"
        text = text.replace(_ANSWER_BEGINS + end, _ANSWER_BEGINS + _EMPTY_THOUGHT + end)
    keys[TEMPLATE_KEY] = string_value(text)
    return [Change(check, "chat template set to Gemma 4's") for check in bad]


def _repair_values(_header: Header, keys: Keys, failed: Failed) -> list[Change]:
    if "keys.values" not in failed:
        return []
    for key, number, _ in CONSTANT_KEYS:
        keys[key] = float32_value(number)
    for name in ("type", "factor", "original_context_length", "finetuned"):
        keys.pop(f"gemma4.rope.scaling.{name}", None)
    return [Change("keys.values", "norm epsilon, RoPE bases and softcap set to Gemma 4's")]


def _repair_tokenizer(_header: Header, keys: Keys, failed: Failed) -> Iterator[Change]:
    # Gemma 4's tokenizer works by merges: without them its name alone would not repair the file.
    if "tokenizer.model" in failed and find_array(keys, "merges"):
        keys[TOKENIZER + "model"] = string_value("gemma4")
        keys.pop(TOKENIZER + "pre", None)  # files of Gemma 4 have none: "gemma4" implies it
        yield Change("tokenizer.model", "tokenizer set to gemma4")
    if "tokenizer.ids" in failed:
        for name, number in SPECIAL_IDS:
            keys[TOKENIZER + name] = uint32_value(number)
        keys[TOKENIZER + "add_bos_token"] = bool_value(True)
        keys[TOKENIZER + "add_space_prefix"] = bool_value(False)
        text = "special ids, add_bos_token and add_space_prefix set to Gemma 4's"
        yield Change("tokenizer.ids", text)
    if "tokenizer.suppressed" in failed:
        keys[TOKENIZER + "suppress_tokens"] = array_value(ValueType.INT32, list(SUPPRESSED_TOKENS))
        yield Change("tokenizer.suppressed", "suppressed tokens set to Gemma 4's")


def _repair_token_types(_header: Header, keys: Keys, failed: Failed) -> list[Change]:
    tokens, types = find_array(keys, "tokens"), find_array(keys, "token_type")
    finding = failed.get("tokenizer.control")
    if finding is None or finding.code != TOKEN_TYPES or tokens is None or types is None:
        return []
    type_numbers = types.to_numpy().astype(np.int32).copy()
    for token, _, type_number in CONTROL_TOKENS:
        if token < len(type_numbers):
            type_numbers[token] = type_number
    for token, text in enumerate(tokens.byte_strings()):
        if token < len(type_numbers) and _BYTE_TOKEN.fullmatch(text):
            type_numbers[token] = BYTE_TYPE
    keys[TOKENIZER + "token_type"] = array_value(ValueType.INT32, type_numbers)
    return [Change("tokenizer.control", "types of control and byte tokens set to Gemma 4's")]


def _repair_shape(header: Header, keys: Keys, failed: Failed) -> list[Change]:
    """Set missing and wrong keys to those of the model that has these tensors."""
    checks = ("keys.architecture", "keys.shape", "tensors.inventory")
    bad = [check for check in checks if check in failed]
    model = _find_model_by_tensors(header) if bad else None
    if model is None:
        return []
    expected = {"general.architecture": string_value("gemma4"), **_shape_keys(model.shape, keys)}
    if all(k in keys and keys[k].data == v.data for k, v in expected.items()):
        return []
    keys.update(expected)
    return [Change(bad[0], f"keys set to those of {model.name}")]


def _find_model_by_tensors(header: Header) -> Model | None:
    """Return the published model with the file's embeddings and number of layers, or None."""
    embedding = header.tensors.get(TOKEN_EMBD)
    for model in MODELS:
        s = model.shape
        if (
            embedding is not None
            and embedding.shape == (s.n_embd, s.n_vocab)
            and f"blk.{s.n_layer - 1}.attn_norm.weight" in header.tensors
            and f"blk.{s.n_layer}.attn_norm.weight" not in header.tensors
        ):
            return model
    return None


def _shape_keys(s: Shape, keys: Keys) -> Keys:
    """Return the keys that describe the shape `s`; `keys` are those that the copy has."""
    numbers: dict[str, int | tuple[int, ...]] = {
        "feed_forward_length": s.n_ff,
        "attention.head_count": s.n_head,
        "attention.head_count_kv": s.n_head_kv,
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
    if "gemma4.context_length" not in keys:  # a fine-tuned model may have another one
        numbers["context_length"] = s.n_ctx_train
    pattern = array_value(ValueType.BOOL, list(s.is_swa))
    return {
        "gemma4.attention.sliding_window_pattern": pattern,
        **{f"gemma4.{name}": _encode_numbers(number) for name, number in numbers.items()},
    }


def _encode_numbers(numbers: int | tuple[int, ...]) -> Value:
    """Return a number, or those of all layers, as llama.cpp's converter writes them.

    It writes one number for all layers if they are equal.
    """
    if isinstance(numbers, tuple) and len(set(numbers)) > 1:
        return array_value(ValueType.INT32, numbers)
    return uint32_value(numbers if isinstance(numbers, int) else numbers[0])


# In this order their changes are listed; none reads what another has changed.
_REPAIRS: Final[tuple[Callable[[Header, Keys, Failed], Iterable[Change]], ...]] = (
    _repair_shape, _repair_values, _repair_tokenizer, _repair_token_types, _repair_template,
)  # fmt: skip


def _repair_rope_table(
    header: Header, keys: Keys, failed: Failed
) -> tuple[bytes | None, list[Change]]:
    """Return the data of Gemma 4's RoPE table, None if the file's own stays, and the change."""
    is_absent = ROPE_FREQS not in header.tensors
    check = "tensors.inventory" if is_absent else "weights.rope"
    finding, head_dim = failed.get(check), find_data(keys, "gemma4.attention.key_length", int)
    if finding is None or head_dim is None:
        return None, []
    n_pairs = head_dim // 2
    if is_absent:
        can_repair = finding.detail == (ROPE_FREQS,)  # other missing tensors cannot be restored
    else:
        # Where bytes were overwritten, tensors near the table are damaged too. A good table would
        # hide that.
        can_repair = (
            finding.cause != "file-damaged" and header.tensors[ROPE_FREQS].nbytes == 4 * n_pairs
        )
    if not can_repair:
        return None, []
    data = np.array(make_rope_table(n_pairs), dtype="<f4").tobytes()
    return data, [Change(check, "RoPE table set to Gemma 4's")]


def _read_shape(header: Header) -> Shape | None:
    try:
        return shape_of(header)
    except BadGGUF:
        return None
