"""From what a user types to what the estimator needs: a shape and the tensors with their types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from g4cli.core.ggml import F32, GGMLType

if TYPE_CHECKING:
    from g4cli.core.gguf import Header
    from g4cli.core.shape import Shape
    from g4cli.estimate import Options, Tensor
    from g4cli.fit import Memory
    from g4cli.host import HostFacts


# Header of a published Gemma 4 file: vocabulary and template. Measured: file sizes less the sums of tensors.
HEADER_BYTES: Final = 15_825_000
HEADER_SLACK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class OwnMix:
    """The bytes by which a published file differs from g4's own recipe; negative if it is smaller."""

    nbytes: int
    name: str = "published mix of types"
    type: GGMLType = F32
    shape: tuple[int, ...] = (1,)


@dataclass(frozen=True, slots=True)
class Subject:
    """A network to estimate. `path` is its file, None where only the registry speaks; `source` says which.

    `model` is its name in the registry, None for a plain file; `published` says which file `g4 pull` would
    fetch, "" if none is known.
    """

    name: str
    shape: Shape
    tensors: Sequence[Tensor]
    source: str
    path: Path | None = None
    model: str | None = None
    published: str = ""


def find_subject(text: str) -> Subject:
    """Return the network that `text` means: a GGUF on disk, a model by name, or hf:OWNER/REPO[/FILE][:TYPE].

    A name that was pulled is answered from its file, any other from the registry; only hf: asks the network,
    for the header of the file. Raises FileMissing, BadGGUF (also for a file of another architecture),
    UnknownModel, NotFound, NetworkError or UsageError.
    """
    from g4cli.core.registry import looks_like_name
    from g4cli.hub.address import as_address
    from g4cli.store.models import entries_of

    text = as_address(text)
    if text.startswith("hf:"):
        return from_hub(text)
    if not looks_like_name(text) or Path(text).is_file():
        return from_file(Path(text).expanduser())
    subject = from_registry(text)
    name, _, type_name = subject.name.partition(":")
    for entry in entries_of(name):
        if entry.role == "model" and entry.type == type_name and entry.path.is_file():
            return replace(
                from_file(entry.path), name=subject.name, model=name, source="the pulled file"
            )
    return subject


def from_file(path: Path) -> Subject:
    """Return the network in the GGUF at `path`."""
    from g4cli.core.gguf import read_header

    return subject_of(path, read_header(path))


def subject_of(path: Path, header: Header) -> Subject:
    """Return the network that `header`, the header of `path`, declares. Raises BadGGUF for another one."""
    from g4cli.core.errors import BadGGUF
    from g4cli.core.shape import shape_of
    from quant.sfp8_file import is_archive, plain_header

    source = "the SFP8 archive, expanded to BF16" if is_archive(header) else "the file's header"
    header = plain_header(header)
    shape = shape_of(header)
    if not header.tensors:
        raise BadGGUF(
            path, "a vocabulary without weights: nothing to estimate", hint="g4 fit MODEL"
        )
    return Subject(path.name, shape, tuple(header.tensors.values()), source, path)


def from_hub(address: str) -> Subject:
    """Return the network of a file on the hub, from its header alone. Raises what the hub raises."""
    from g4cli.core.errors import NotFound
    from g4cli.hub.address import parse_address
    from g4cli.hub.client import Hub
    from g4cli.hub.header import remote_header
    from g4cli.hub.listing import parts_of, pick, preferred_type

    repo, path, type_name, revision = parse_address(address)
    hub = Hub()
    repository = hub.repository(repo, revision)
    files = repository.files
    if path:
        named = next((f for f in files if f.path == path), None)
        if named is None:
            raise NotFound(f"{repo} has no file {path}", hint=f"g4 fit hf:{repo}")
        parts = parts_of(repo, files, named)
    else:
        parts = pick(repo, files, type_name or preferred_type(files))
    headers = [remote_header(hub, repository, part) for part in parts]
    first = subject_of(Path(parts[0].path), headers[0])
    tensors = tuple(tensor for header in headers for tensor in header.tensors.values())
    name = f"hf:{repo}/{parts[0].path}"
    return replace(first, name=name, tensors=tensors, path=None, source="the header on the hub")


def from_registry(name: str) -> Subject:
    """Return the network called `name`, its tensors typed as g4 quantize would type them."""
    from g4cli.core.registry import parse_name
    from g4cli.core.units import size_text

    ref = parse_name(name)
    tensors = typed_tensors(ref.model.name, ref.type)
    file = ref.model.find_published(ref.type)
    published = (
        f"{file.repo}, {size_text(file.nbytes)}"
        if file and file.nbytes
        else file.repo
        if file
        else ""
    )
    return Subject(
        str(ref),
        ref.model.shape,
        tensors,
        "the registry",
        model=ref.model.name,
        published=published,
    )


@cache
def typed_tensors(name: str, type_name: str) -> tuple[Tensor, ...]:
    """Return the tensors of the model `name` as g4 quantize would make them; SFP8 in its BF16 form.

    Publishers mix types in their own ways: where the size of their file is known and differs, the difference
    is one more item, so that the sum is the file's.
    """
    from g4cli.core.inventory import text_tensors
    from g4cli.core.registry import parse_name
    from quant.recipes import Recipe, choose_types

    model = parse_name(name).model
    tensors: tuple[Tensor, ...] = choose_types(
        text_tensors(model.shape), Recipe(type_name, carrier="bf16")
    )
    file = model.find_published(type_name)
    if file is None or not file.nbytes:
        return tensors
    difference = file.nbytes - HEADER_BYTES - sum(t.nbytes for t in tensors)
    return (*tensors, OwnMix(difference)) if abs(difference) > HEADER_SLACK else tensors


def memories_of(host: HostFacts, *, with_gpus: bool = True) -> tuple[Memory, ...]:
    """Return the devices of this machine as the planner wants them: the host, then the GPUs last seen."""
    from g4cli.estimate import HOST
    from g4cli.fit import Memory

    gpus = host.gpus.gpus if host.gpus and with_gpus else ()
    return (
        Memory(HOST, host.total_bytes, host.available_bytes),
        *(Memory(g.name, g.total_bytes, g.free_bytes, g.unified) for g in gpus),
    )


def run_options(
    host: HostFacts,
    subject: Subject,
    *,
    n_ctx: int = 0,
    kv_type: str = "f16",
    mmap: bool = True,
    lazy_ple: str = "auto",
    use_extra_bufts: bool = True,
) -> Options:
    """Return the options of a chat on this machine; `n_ctx` 0 is all that the model was made for.

    `lazy_ple` "auto" keeps a per-layer-embedding table above 4 GiB on the disk, as llama.cpp does
    (lazy_read::add, src/llama-model-loader.cpp, llama.cpp@0c1e57098). Raises UsageError for a KV type.
    """
    from g4cli.core.inventory import PER_LAYER_TOKEN_EMBD
    from g4cli.core.units import GIB
    from g4cli.estimate import Options, repacked_types
    from g4cli.estimate import kv_type as find_kv_type

    kind = find_kv_type(kv_type)
    table_bytes = sum(t.nbytes for t in subject.tensors if t.name == PER_LAYER_TOKEN_EMBD)
    return Options(
        n_ctx or subject.shape.n_ctx_train,
        type_k=kind,
        type_v=kind,
        mmap=mmap,
        repack=repacked_types(host.cpu_features) if use_extra_bufts else frozenset(),
        lazy_ple=lazy_ple == "on" or (lazy_ple == "auto" and table_bytes > 4 * GIB),
    )


def encoder_beside(path: Path) -> Path | None:
    """Return the encoder of images and sounds that lies beside the model at `path`, or None."""
    from g4cli.store.models import sidecar

    return sidecar(path, "mmproj") or next(path.parent.glob("mmproj*.gguf"), None)


def with_encoder(options: Options, shape: Shape, mmproj: Path, image_tokens: int) -> Options:
    """Return `options` with an encoder beside the model. Raises BadGGUF if the file is none.

    Networks without per-layer embeddings look at an image both ways: one ubatch must hold it whole.
    """
    from g4cli.core.gguf import read_header
    from g4cli.estimate import media_bytes

    media = media_bytes(read_header(mmproj), image_tokens)
    ubatch = options.n_ubatch if shape.n_embd_per_layer else max(options.n_ubatch, image_tokens)
    return replace(options, n_ubatch=ubatch, media=media)


def verified(subject: Subject, options: Options, drafter: Path | None = None) -> dict[str, Any]:
    """Return llama.cpp's own figures beside g4's, in bytes: {"library", "equal", "rows": [...]}.

    llama.cpp plans without mmap, so the weights are compared as they would be without it. `drafter` is the
    file of the drafting network. Raises UsageError where there is no file, RuntimeFailed if llama.cpp refuses
    it.
    """
    from g4cli.core.errors import UsageError
    from g4cli.estimate import estimate
    from g4cli.estimate.draft import draft_compute_bytes
    from g4cli.runtime.probes.memory import probe_in_child, run_of

    if subject.path is None:
        raise UsageError(f"{subject.name}: --verify needs a file", hint=f"g4 pull {subject.name}")
    answer = probe_in_child(subject.path, [{**run_of(options), "draft": str(drafter or "")}])
    found = answer["runs"][0]
    if "error" in found:
        raise UsageError(
            f"llama.cpp refuses these settings: {found['error']}", hint="g4 fit --help"
        )
    buffers = found["buffers"].values()
    plain = replace(options, mmap=False, lazy_ple=False)
    own = estimate(subject.shape, subject.tensors, replace(plain, draft=None))
    compute = sum(t.nbytes for t in own.terms if t.name == "compute")
    rows = [
        {
            "term": "weights",
            "estimate": own.weights_bytes,
            "llama_cpp": sum(b["model"] for b in buffers),
        },
        {
            "term": "KV cache",
            "estimate": own.kv_bytes,
            "llama_cpp": sum(b["context"] for b in buffers),
        },
        {"term": "compute", "estimate": compute, "llama_cpp": sum(b["compute"] for b in buffers)},
    ]
    if "draft" in found and options.draft:
        beside = found["draft"]["buffers"].values()
        terms = estimate(subject.shape, (), plain).terms
        weights = sum(t.nbytes for t in terms if t.name == "drafter")
        scratch = draft_compute_bytes(options.draft, subject.shape, options)
        for term, number, key in (
            ("drafter", weights, "model"),
            ("drafter's compute", scratch, "compute"),
        ):
            rows.append(
                {"term": term, "estimate": number, "llama_cpp": sum(b[key] for b in beside)}
            )
    if not buffers:  # the breakdown is readable on Linux only; the log's KV sizes everywhere
        rows = [
            {
                "term": "KV cache",
                "estimate": own.kv_bytes,
                "llama_cpp": sum(c["bytes"] for c in found["kv"]),
            }
        ]
    equal = all(row["estimate"] == row["llama_cpp"] for row in rows)
    return {"library": answer["library"], "equal": equal, "rows": rows}
