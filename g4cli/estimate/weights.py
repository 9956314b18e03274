"""Compute the memory of the weights on each device.

Some weights are in memory twice while the file is mapped: llama.cpp copies matrices whose type the
CPU's kernels multiply faster in another layout (repacking), and those that it offloads to a GPU.
The pages of the file that were only read for such a copy stay in the page cache until memory is
short.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from g4cli.core.ggml import round_up
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.inventory import OUTPUT, PER_LAYER_TOKEN_EMBD, TOKEN_EMBD
from g4cli.estimate.graph import CPU_ALIGNMENT
from g4cli.estimate.options import Options
from g4cli.estimate.placement import device_of
from g4cli.estimate.result import HOST, Group, Term, is_remote

# ggml_repack_get_optimal_repack_type, ggml/src/ggml-cpu/repack.cpp, llama.cpp@0c1e57098. The
# features are named as in Linux's /proc/cpuinfo; "asimddp" there is "dotprod" on macOS.
_REPACKED: Final = (
    # type, features of which one is enough
    ("Q4_0", ("avx2", "asimddp", "i8mm", "dotprod")),
    ("Q4_K", ("avx2", "asimddp", "i8mm", "dotprod")),
    ("IQ4_NL", ("avx2", "asimddp", "dotprod")),
    ("MXFP4", ("avx2", "asimddp", "dotprod")),
    ("Q2_K", ("avx512f",)),
    ("Q5_K", ("asimddp", "i8mm", "dotprod")),
    ("Q6_K", ("asimddp", "i8mm", "dotprod")),
    ("Q8_0", ("asimddp", "i8mm", "dotprod")),
    ("Q1_0", ("asimddp", "i8mm", "dotprod")),
)
# The repacked layouts interleave 8 rows.
_ROWS_TOGETHER: Final = 8


def repacked_types(cpu_features: frozenset[str]) -> frozenset[str]:
    """Return the types whose matrices llama.cpp repacks for a CPU with these features."""
    return frozenset(name for name, features in _REPACKED if cpu_features.intersection(features))


def _is_repacked(tensor: TensorSpec, options: Options) -> bool:
    """Return whether llama.cpp copies this matrix into its CPU_REPACK buffer.

    It repacks matrices that are multiplied: neither vectors nor tables from which rows are read.
    """
    return (
        tensor.type.name in options.repack
        and len(tensor.shape) > 1
        and tensor.shape[1] % _ROWS_TOGETHER == 0
        and tensor.name not in (TOKEN_EMBD, PER_LAYER_TOKEN_EMBD)
    )


def weight_terms(
    tensors: Sequence[TensorSpec], options: Options, devices: Sequence[str]
) -> list[Term]:
    """Return the terms of the weights; `devices` are those of the layers and of the output.

    With mmap the pages of the file are the weights on the host. Without mmap each tensor is padded,
    and the embeddings are loaded a second time as the output matrix (TENSOR_DUPLICATED in
    load_arch_tensors, src/models/gemma4.cpp, llama.cpp@0c1e57098).
    """
    gpus = tuple(dict.fromkeys(d for d in devices if d != HOST))
    if any(not is_remote(gpu) for gpu in gpus):
        # make_cpu_buft_list prefers the GPU's pinned host buffer to CPU_REPACK; workers have none.
        options = replace(options, repack=frozenset())
    on: dict[str, list[TensorSpec]] = {device: [] for device in (HOST, *gpus)}
    for tensor in tensors:
        on[device_of(tensor.name, devices, options)].append(tensor)
    repacked = [t for t in on[HOST] if _is_repacked(t, options)]
    ple_table = [t for t in on[HOST] if t.name == PER_LAYER_TOKEN_EMBD]
    with_own_terms = {t.name for t in (*repacked, *ple_table)}
    # Which tensors hold the unlisted bytes is unknown: they are counted with the first layer.
    unlisted = Counter({devices[0]: options.unlisted_weight_bytes})
    others = _total_bytes((t for t in on[HOST] if t.name not in with_own_terms), options)
    terms = [Term("weights", HOST, "weights", others + unlisted[HOST])]
    if repacked:
        terms.append(Term("weights, repacked", HOST, "weights", _total_bytes(repacked, options)))
    terms += _output_terms(tensors, options, devices)
    if ple_table:
        group: Group = "disk" if options.lazy_ple else "weights"
        note = "rows are read when needed" if options.lazy_ple else ""
        nbytes = _total_bytes(ple_table, options)
        terms.append(Term("per-layer embeddings", HOST, group, nbytes, note))
    for gpu in gpus:
        nbytes = sum(t.nbytes for t in on[gpu]) + unlisted[gpu]
        terms.append(Term("weights", gpu, "weights", nbytes))
    copied = [*repacked, *(t for gpu in gpus for t in on[gpu])]
    if options.mmap and copied:
        note = "of copied weights; freed if needed"
        nbytes = _total_bytes(copied, options) + sum(unlisted[gpu] for gpu in gpus)
        terms.append(Term("page cache", HOST, "cache", nbytes, note))
    return terms


def list_sent_tensors(
    tensors: Sequence[TensorSpec], options: Options, devices: Sequence[str]
) -> Iterator[tuple[str, int]]:
    """Yield device and bytes of each tensor that loading sends to a worker.

    `devices` are those of the layers and of the output.
    """
    for tensor in tensors:
        device = device_of(tensor.name, devices, options)
        if is_remote(device):
            yield device, tensor.nbytes
    if is_remote(devices[-1]):
        for term in _output_terms(tensors, options, devices):
            yield term.device, term.nbytes


def _output_terms(
    tensors: Sequence[TensorSpec], options: Options, devices: Sequence[str]
) -> list[Term]:
    """Return the copy of the embeddings that serves as the output matrix, where there is one."""
    embeddings = [t for t in tensors if t.name == TOKEN_EMBD]
    if not embeddings or any(t.name == OUTPUT for t in tensors):
        return []
    nbytes = _total_bytes(embeddings, options)
    if devices[-1] != HOST:
        return [Term("output matrix", devices[-1], "weights", nbytes, "a copy of the embeddings")]
    if embeddings[0].type.name in options.repack:
        return [Term("output matrix, repacked", HOST, "weights", nbytes)]
    if not options.mmap:
        return [Term("output matrix", HOST, "weights", nbytes, "a copy of the embeddings: no mmap")]
    return []


def _total_bytes(tensors: Iterable[TensorSpec], options: Options) -> int:
    if options.mmap:
        return sum(t.nbytes for t in tensors)
    return sum(round_up(t.nbytes, CPU_ALIGNMENT) for t in tensors)
