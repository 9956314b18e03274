"""Find the network that `g4 fit` estimates, by name, path or address: its shape and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from g4cli.core.errors import BadGGUF
from g4cli.core.gguf import read_model_header
from g4cli.core.gguf_header import Header, TensorSpec
from g4cli.core.hub_address import HUB_PREFIX, as_address, is_on_hub, parse_address
from g4cli.core.inventory import text_tensors, unused_kv
from g4cli.core.paths import expand_home
from g4cli.core.quoting import shell_command
from g4cli.core.registry import Published, looks_like_name, parse_name
from g4cli.core.shape import Shape, shape_of
from g4cli.core.units import size_text
from g4cli.quant.recipes import Recipe, choose_types
from g4cli.store.models import list_entries

# Header of a published Gemma 4 file: vocabulary and chat template. Measured: sizes of published
# files minus the sums of their tensors.
_HEADER_BYTES: Final = 15_825_000
_HEADER_TOLERANCE: Final = 1 << 16  # chat templates and names of files differ by less


@dataclass(frozen=True, slots=True)
class Subject:
    """A network to estimate.

    `name` is a label ("e2b:q4_0"), the name of a file or an address on the hub. `path` is its file,
    None where only the registry or the hub describes it; `source` names the origin of the
    description. `model` is its name in the registry, None for a plain file; `published` says, for
    the user, which file `g4 pull` would fetch, "" if none is known. `unlisted_bytes` is how
    many bytes larger (negative: smaller) the weights of the published file are than `tensors`,
    where the publisher's mixture of types differs from g4's recipe.
    """

    name: str
    shape: Shape
    tensors: Sequence[TensorSpec]
    source: str
    path: Path | None = None
    model: str | None = None
    published: str = ""
    unlisted_bytes: int = 0

    @property
    def weight_bytes(self) -> int:
        """The bytes of all weights in the file."""
        return sum(t.nbytes for t in self.tensors) + self.unlisted_bytes


def find_subject(text: str) -> Subject:
    """Return the network that `text` names: a GGUF, a model, or [hf:]OWNER/REPO[/FILE][:TYPE].

    A model that was pulled is described by its file, any other by the registry. Only an address of
    the hub uses the network, to read the header of the file. Raises FileMissing, BadGGUF (also for
    a file of another architecture), UnknownModel, NotFound, NetworkError or UsageError.
    """
    text = as_address(text)
    if is_on_hub(text):
        return read_hub_subject(text)
    if not looks_like_name(text) or Path(text).is_file():
        path = expand_home(text)
        return make_subject(path, read_model_header(path))
    subject = describe_model(text)
    name, _, type_name = subject.name.partition(":")
    for entry in list_entries(name):
        if entry.role == "model" and entry.type == type_name and entry.path.is_file():
            pulled = make_subject(entry.path, read_model_header(entry.path))
            return replace(pulled, name=subject.name, model=name, source="the pulled file")
    return subject


def make_subject(path: Path, header: Header) -> Subject:
    """Return the network that `header`, the header of `path`, declares.

    Raises BadGGUF for another architecture and for a file without weights.
    """
    from g4cli.quant.sfp8_archive import expanded_header, is_archive  # needs numpy

    source = "the SFP8 archive, expanded to BF16" if is_archive(header) else "the file's header"
    header = expanded_header(header)
    shape = shape_of(header)
    if not header.tensors:
        raise BadGGUF(path, "it has a vocabulary but no weights", hint="g4 fit MODEL")
    return Subject(path.name, shape, tuple(header.tensors.values()), source, path)


def read_hub_subject(address: str) -> Subject:
    """Return the network of a file on the hub, described by its header; only that is downloaded.

    Raises NotFound, NetworkError, BadGGUF or UsageError.
    """
    # Imported here, since the hub's modules take long to load and most subjects do not need them.
    from g4cli.hub.client import Hub
    from g4cli.hub.header import remote_header
    from g4cli.hub.listing import parts_of, pick_model, preferred_type

    repo, path, type_name, revision = parse_address(address)
    hub = Hub()
    repository = hub.read_repository(repo, revision)
    files = repository.files
    if path:
        hint = shell_command("g4", "fit", f"{HUB_PREFIX}{repo}")
        parts = parts_of(repo, files, repository.find_file(path, hint))
    else:
        parts = pick_model(repo, files, type_name or preferred_type(files))
    headers = [remote_header(hub, repository, part) for part in parts]
    # The first part of a split file may hold no tensors at all.
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    subject = make_subject(Path(parts[0].path), replace(headers[0], tensors=tensors))
    name = f"{HUB_PREFIX}{repo}/{parts[0].path}"
    return replace(subject, name=name, path=None, source="the header on the hub")


def describe_model(name: str) -> Subject:
    """Return the network called `name` in the registry, with the types of g4's recipe.

    What its published file has more or less is in `unlisted_bytes`.
    Raises UnknownModel, or UsageError for a type that it does not have.
    """
    ref = parse_name(name)
    tensors = list_typed_tensors(ref.model.name, ref.type)
    file = ref.model.find_published(ref.type)
    return Subject(
        str(ref),
        ref.model.shape,
        tensors,
        "the registry",
        model=ref.model.name,
        published=_describe_published(file),
        unlisted_bytes=_count_unlisted(file, tensors),
    )


@cache
def list_typed_tensors(name: str, type_name: str) -> tuple[TensorSpec, ...]:
    """Return the tensors of the model `name` as `g4 quantize` types them; SFP8 in its BF16 form."""
    model = parse_name(name).model
    # Published files hold K and V of layers that use another's; the bundled one leaves them out.
    left_out = unused_kv(model.shape) if model.is_bundled else frozenset()
    dims = [tensor for tensor in text_tensors(model.shape) if tensor.name not in left_out]
    tensors: tuple[TensorSpec, ...] = choose_types(dims, Recipe(type_name, container="bf16"))
    return tensors


def _describe_published(file: Published | None) -> str:
    if file is None:
        return ""
    return f"{file.repo}, {size_text(file.nbytes)}" if file.nbytes else file.repo


def _count_unlisted(file: Published | None, tensors: Sequence[TensorSpec]) -> int:
    """Return by how many bytes the weights of `file` exceed `tensors`; 0 if unknown."""
    if file is None or not file.nbytes:
        return 0
    difference = file.nbytes - _HEADER_BYTES - sum(t.nbytes for t in tensors)
    return difference if abs(difference) > _HEADER_TOLERANCE else 0
