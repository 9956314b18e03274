"""Make the options and devices of the estimate from a request and a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from g4cli.core.errors import UsageError
from g4cli.core.gguf import read_header
from g4cli.core.inventory import PER_LAYER_TOKEN_EMBD
from g4cli.core.shape import Shape
from g4cli.core.units import GIB
from g4cli.estimate import HOST, Options, media_bytes, repacked_types
from g4cli.estimate import kv_type as find_kv_type
from g4cli.fit.memory import Memory
from g4cli.host import HostFacts
from g4cli.operations.fit.drafting import add_drafting, find_draft_file
from g4cli.operations.fit.request import FitRequest
from g4cli.operations.fit.subject import Subject
from g4cli.store.models import find_sidecar

if TYPE_CHECKING:
    from g4cli.runtime.engine.options import ModelOptions

_N_BATCH: Final = 2048  # llama.cpp's default
_LAZY_PLE_BYTES: Final = 4 * GIB  # see make_run_options


def list_memories(
    host: HostFacts,
    *,
    with_gpus: bool = True,
    workers: Sequence[Memory] = (),
    device: str | None = None,
) -> tuple[Memory, ...]:
    """Return the memory of `host`, of the devices of `workers`, and of the GPUs of `host`.

    This is llama.cpp's order too: it gives the first of the offloaded layers to workers. The GPUs
    are those that llama.cpp listed last. With `device` no other GPU is listed; as in llama.cpp,
    case does not matter in its name.
    """
    gpus = host.gpus if host.gpus and with_gpus else ()
    if device is not None:
        gpus = tuple(gpu for gpu in gpus if gpu.name.lower() == device.lower())
    return (
        Memory(HOST, host.total_bytes, host.available_bytes),
        *workers,
        *(Memory(g.name, g.total_bytes, g.free_bytes, g.unified) for g in gpus),
    )


def make_run_options(
    host: HostFacts,
    subject: Subject,
    *,
    n_ctx: int = 0,
    kv_type: str = "f16",
    mmap: bool = True,
    lazy_ple: Literal["auto", "on", "off"] = "auto",
    use_extra_bufts: bool = True,
) -> Options:
    """Return the options of a run of `subject` on `host`; `n_ctx` 0 is the model's own context.

    `lazy_ple` "auto" keeps a per-layer-embedding table above 4 GiB on the disk, as llama.cpp does
    (lazy_read::add, src/llama-model-loader.cpp, llama.cpp@0c1e57098). `use_extra_bufts` False is
    for machines whose repacked kernels fail. Raises UsageError for an unknown KV cache type.
    """
    kind = find_kv_type(kv_type)
    table_bytes = sum(t.nbytes for t in subject.tensors if t.name == PER_LAYER_TOKEN_EMBD)
    return Options(
        n_ctx or subject.shape.n_ctx_train,
        type_k=kind,
        type_v=kind,
        mmap=mmap,
        repack=repacked_types(host.cpu_features) if use_extra_bufts else frozenset(),
        lazy_ple=lazy_ple == "on" or (lazy_ple == "auto" and table_bytes > _LAZY_PLE_BYTES),
        unlisted_weight_bytes=subject.unlisted_bytes,
    )


def make_chat_options(
    host: HostFacts, subject: Subject, *, n_ctx: int = 0, kv_type: str = "f16"
) -> Options:
    """Return make_run_options with the drafting of `g4 chat --draft auto`."""
    options = make_run_options(host, subject, n_ctx=n_ctx, kv_type=kv_type)
    return add_drafting(options, subject, "auto")


def make_loading_options(
    host: HostFacts, subject: Subject, loading: ModelOptions, *, n_ctx: int = 0, kv_type: str
) -> Options:
    """Return the options of a run on `host` that loads `subject` as `loading` says.

    `n_ctx` 0 is the model's own context. Raises UsageError for an unknown KV cache type.
    """
    options = make_run_options(
        host,
        subject,
        n_ctx=n_ctx,
        kv_type=kv_type,
        mmap=loading.mmap,
        lazy_ple=loading.lazy_ple,
        use_extra_bufts=loading.use_extra_bufts,
    )
    options = replace(options, tensor_split=loading.tensor_split)
    return _fix_layout(options, loading.n_gpu_layers, loading.n_cpu_moe)


def make_fit_options(request: FitRequest, host: HostFacts, subject: Subject) -> Options:
    """Return the options that `request` asks for; without a number the context is the model's own.

    Raises UsageError, FileMissing (the mmproj or draft model), BadGGUF.
    """
    options = replace(
        make_run_options(
            host, subject, kv_type=request.kv_type, mmap=request.mmap, lazy_ple=request.lazy_ple
        ),
        n_ctx=request.ctx if isinstance(request.ctx, int) else subject.shape.n_ctx_train,
        n_ubatch=request.n_ubatch,
        n_batch=max(_N_BATCH, request.n_ubatch),
        n_seq=request.n_seq,
        flash_attn=request.flash_attn,
        swa_full=request.swa_full,
        tensor_split=request.tensor_split,
    )
    options = _fix_layout(options, request.n_gpu_layers, request.n_cpu_moe)
    if request.mmproj:
        options = add_encoder(options, subject.shape, request.mmproj, request.image_tokens)
    return add_drafting(options, subject, _choose_draft(request, subject))


def _fix_layout(options: Options, n_gpu_layers: int, n_cpu_moe: int) -> Options:
    """Return `options` with the layers to offload, and those whose experts stay behind.

    `n_gpu_layers` below 0 leaves the number of layers to the planner.
    """
    options = replace(options, n_cpu_moe=n_cpu_moe)
    if n_gpu_layers < 0:
        return options
    return replace(options, n_gpu_layers=n_gpu_layers, fixed_layout=True)


def _choose_draft(request: FitRequest, subject: Subject) -> str:
    """Return the value of --draft, without draft models where layers are on workers."""
    draft = request.draft
    if not (request.rpc or request.worker_memory_bytes) or draft in ("off", "lookup"):
        return draft
    if draft == "auto":  # which is the draft model where there is one, else lookup if it pays
        return "lookup" if find_draft_file(subject.path, draft) else "auto"
    raise UsageError("draft models do not work with --rpc", hint="--draft lookup")


def find_encoder(path: Path) -> Path | None:
    """Return the mmproj that belongs to the model at `path`, or None.

    It is the one pulled with the model, or a file mmproj*.gguf in the same folder.
    """
    return find_sidecar(path, "mmproj") or next(path.parent.glob("mmproj*.gguf"), None)


def add_encoder(options: Options, shape: Shape, mmproj: Path, image_tokens: int) -> Options:
    """Return `options` with the encoder in the file `mmproj` loaded too. Raises BadGGUF.

    Networks without per-layer embeddings attend to an image in both directions: one ubatch must
    hold all of its `image_tokens`.
    """
    media = media_bytes(read_header(mmproj), image_tokens)
    n_ubatch = options.n_ubatch if shape.n_embd_per_layer else max(options.n_ubatch, image_tokens)
    return replace(options, n_ubatch=n_ubatch, media=media)
