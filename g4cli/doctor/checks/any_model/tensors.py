"""Checks of the tensor list against the file's own keys: layers, widths, vocabulary, experts."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from g4cli.core.file_kind import text_key
from g4cli.core.gguf_header import Header
from g4cli.core.gguf_values import find_data
from g4cli.core.inventory import OUTPUT, TOKEN_EMBD
from g4cli.core.units import count_text
from g4cli.doctor.checks.advice import GET_ANOTHER
from g4cli.doctor.checks.tensors import find_reason_not_compared
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped

_LAYER: Final = re.compile(r"^blk\.(?P<layer>\d+)\.(?P<suffix>.+)$")
# Of fewer layers, each may be of a kind of its own (a choice).
_MIN_LAYERS: Final = 4
# Expert matrices of a layer are one tensor: its last dimension counts the experts.
_EXPERTS: Final = re.compile(r"^blk\.\d+\.ffn_(gate|up|down|gate_up)_exps\.weight$")


def check_output(facts: FileFacts) -> Outcome:
    """Say whether the output matrix is stored, and fail if it has another size than the input."""
    output, embedding = facts.tensors.get(OUTPUT), facts.tensors.get(TOKEN_EMBD)
    if embedding is None:
        return skipped(f"there is no {TOKEN_EMBD}")
    if output is None:
        return ok("output tied to the embeddings")
    if output.shape != embedding.shape:
        return fail(
            f"{OUTPUT} is {list(output.shape)}, {TOKEN_EMBD} is {list(embedding.shape)}",
            GET_ANOTHER,
            cause="conversion-defect",
        )
    return ok(f"an output matrix of its own, {list(output.shape)}")


def check_inventory(facts: FileFacts) -> Outcome:
    """Fail if layers are missing or shapes contradict the keys.

    Layers may differ in hybrid networks, so a tensor counts as missing only if every layer but one
    has it.
    """
    header = facts.header
    assert header is not None
    if why := find_reason_not_compared(facts):
        return skipped(why)
    bad = [*_missing_layers(header), *_missing_tensors(header), *_wrong_shapes(header, facts)]
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        return fail(bad[0] + more, GET_ANOTHER, cause="conversion-defect", detail=tuple(bad))
    layers = _list_layers(header)
    return ok(f"{len(header.tensors)} tensors, {len(layers)} layers, in agreement with the keys")


def _list_layers(header: Header) -> set[int]:
    """Return the numbers of the layers that have tensors."""
    return {int(match["layer"]) for name in header.tensors if (match := _LAYER.match(name))}


def _missing_layers(header: Header) -> list[str]:
    """Return one fault, or none: layers without tensors, or another number than the key says."""
    key = f"{text_key(header, 'general.architecture')}.block_count"
    declared, layers = find_data(header.keys, key, int), _list_layers(header)
    if declared is None or not layers:
        return []
    count = max(layers) + 1
    expected = max(0, min(count, declared))
    # A name may hold any number: counting up to it could take days.
    n_missing = expected - sum(layer < expected for layer in layers)
    if n_missing:
        first = next(n for n in range(expected) if n not in layers)
        return [f"{count_text(n_missing, 'layer')} without tensors, first blk.{first}"]
    return [f"{key} is {declared}, the file has {count} layers"] if count != declared else []


def _missing_tensors(header: Header) -> list[str]:
    """Return the tensors that every layer but one has."""
    matches = [match for name in header.tensors if (match := _LAYER.match(name))]
    n_layers_with = Counter(match["suffix"] for match in matches)
    layers = sorted({int(match["layer"]) for match in matches})
    # The first and the last layer differ by design in some networks.
    return [
        f"blk.{layer}.{suffix} is missing, all other layers have it"
        for suffix, n_with in n_layers_with.items()
        if n_with == len(layers) - 1 and len(layers) >= _MIN_LAYERS
        for layer in layers[1:-1]
        if f"blk.{layer}.{suffix}" not in header.tensors
    ]


def _wrong_shapes(header: Header, facts: FileFacts) -> list[str]:
    """Return the tensors whose shapes contradict the keys."""
    prefix = text_key(header, "general.architecture")
    bad = []
    embedding = header.tensors.get(TOKEN_EMBD)
    if embedding is not None and len(embedding.shape) == 2:
        width = find_data(header.keys, f"{prefix}.embedding_length", object)
        if width not in (None, embedding.shape[0]):
            bad.append(
                f"{TOKEN_EMBD} is {embedding.shape[0]} wide, {prefix}.embedding_length is {width}"
            )
        n_tokens = facts.vocabulary.n_tokens if facts.vocabulary is not None else -1
        if n_tokens > embedding.shape[1]:
            bad.append(f"{n_tokens:,} tokens for {embedding.shape[1]:,} rows of {TOKEN_EMBD}")
    n_experts = find_data(header.keys, f"{prefix}.expert_count", int)
    if n_experts:
        bad += [
            f"{name} holds {tensor.shape[-1]} experts, {prefix}.expert_count is {n_experts}"
            for name, tensor in header.tensors.items()
            if _EXPERTS.match(name) and tensor.shape[-1] != n_experts
        ]
    return bad


CHECKS: Final = (
    Check("tensors.tied", check_output),
    Check("tensors.inventory", check_inventory),
)
