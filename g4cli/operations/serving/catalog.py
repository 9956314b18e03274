"""The models that a server offers, and by which names clients may ask for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from math import prod
from pathlib import Path
from typing import Final, TypeVar

from g4cli.core.errors import G4Error, UnknownModel, UsageError
from g4cli.core.file_kind import encoded_media, file_type_text, is_runnable
from g4cli.core.files import require_file
from g4cli.core.gguf import read_header, read_model_header
from g4cli.core.quoting import shell_command
from g4cli.core.shape import shape_of
from g4cli.core.template_child import TEMPLATE_KEY
from g4cli.operations.fit.options import find_encoder
from g4cli.store.manifest import Entry
from g4cli.store.models import find_model_file, find_newest_model, list_models

T = TypeVar("T")
_LATEST: Final = ":latest"  # what Ollama's clients put behind a name without a tag


@dataclass(frozen=True)
class Offer:
    """A model on offer: `name` is the one it is listed by; `path` is its file.

    `aliases` are other names for it; `sha256` is "" if nobody computed it.
    """

    name: str
    aliases: tuple[str, ...]
    path: Path
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class OfferFacts:
    """What the header of a model file says. `type`: that of most weights, such as "q4_0".

    `nbytes` are those of the file, `modified` is when it was changed last, in Unix seconds.
    `modalities` are among "text", "image" and "audio".
    """

    type: str
    n_ctx_train: int
    n_params: int
    nbytes: int
    modified: int
    modalities: tuple[str, ...] = ("text",)


class Catalog:
    """The models of the command line, or without any all of the store."""

    def __init__(
        self,
        words: Sequence[str] = (),
        aliases: Sequence[str] = (),
        mmproj: Path | None = None,
    ) -> None:
        """`words` as `g4 chat` takes them; `aliases` are further names of the first.

        For the first model of the store, only those count that are no name of another one there.

        `mmproj`: the encoder that all models are loaded with; None: the one that belongs to each.

        Raises what find_model_file raises, BadGGUF for a file that is not Gemma 4's, and UsageError
        for two files of one name, and for an alias that is the name of another model.
        """
        self._fixed = tuple(
            _offer_file(word, aliases if index == 0 else ()) for index, word in enumerate(words)
        )
        for first, second in combinations(self._fixed, 2):
            if first.name == second.name and first.path != second.path:
                raise UsageError(
                    f"{first.path} and {second.path} would both be called {first.name}",
                    hint=shell_command("mv", second.path, second.path.with_stem("OTHER-NAME")),
                )
        for word, offer in zip(words[1:], self._fixed[1:], strict=True):
            names = {word, offer.name}
            hidden = [alias for alias in aliases if names & {alias, alias.removesuffix(_LATEST)}]
            if hidden and offer.path != self._fixed[0].path:
                raise UsageError(
                    f"--alias {hidden[0]} is the name of another model: {offer.path}",
                    hint="another --alias, or none",
                )
        self._aliases, self._mmproj = tuple(aliases), mmproj
        self._seen: tuple[Offer, ...] = ()

    @property
    def is_fixed(self) -> bool:
        """Whether the models are those of the command line, not all of the store."""
        return bool(self._fixed)

    def list_offers(self) -> tuple[Offer, ...]:
        """Return the models on offer, the default first; of the store those that are in it now."""
        if not self._fixed:
            self._seen = self._read_store()
        return self._fixed or self._seen

    def find(self, name: str) -> Offer:
        """Return the model called `name`; "" is the first. Raises UnknownModel.

        Only names on offer count: no path is read from a request.
        """
        # The store is read again only for a name that was not in it.
        offer = _choose_offer(self._fixed or self._seen, name)
        offer = offer or _choose_offer(self.list_offers(), name)
        if offer is not None:
            return offer
        names = ", ".join(offer.name for offer in self.list_offers()) or "none: g4 pull tiny"
        raise UnknownModel(f"no model is called {name[:100]!r}; on offer: {names}", hint="g4 list")

    def read_facts(self, offer: Offer) -> OfferFacts:
        """Return what the headers of a model and of its encoder say.

        They are read again when a file changes. Raises FileMissing or BadGGUF.
        """
        mmproj = self.find_encoder(offer)
        modalities = () if mmproj is None else _read_once(_read_modalities, mmproj)
        return replace(_read_once(_read_facts, offer.path), modalities=("text", *modalities))

    def find_encoder(self, offer: Offer) -> Path | None:
        """Return the encoder of images and sounds that a model is loaded with, or None."""
        return self._mmproj or find_encoder(offer.path)

    def _read_store(self) -> tuple[Offer, ...]:
        entries = [
            entry
            for entry in list_models()
            if entry.role == "model" and _is_runnable_file(entry.path, entry.nbytes, entry.date)
        ]
        if not entries:
            return ()
        newest = find_newest_model().path
        entries.sort(key=lambda e: e.path != newest)
        first, *others = map(_offer_entry, entries)
        taken = {name for offer in others for name in (offer.name, *offer.aliases)}
        aliases = (a for a in self._aliases if not taken & {a, a.removesuffix(_LATEST)})
        return (replace(first, aliases=(*aliases, *first.aliases)), *others)


def _choose_offer(offers: Sequence[Offer], name: str) -> Offer | None:
    """Return the offer that clients mean by `name`, with or without Ollama's tag, or None."""
    wanted = {name, name.removesuffix(_LATEST)}
    for offer in offers:
        if (not name or wanted & {offer.name, *offer.aliases}) and offer.path.is_file():
            return offer
    return None


def read_template(path: Path) -> str:
    """Return a model file's chat template, "" if it has none. Raises FileMissing, BadGGUF."""
    template: str = read_header(path).get(TEMPLATE_KEY, str, "")
    return template


def _read_once(read: Callable[[Path, int, int], T], path: Path) -> T:
    """Return what `read`, which remembers, finds in the file at `path` as it is now.

    Raises FileMissing.
    """
    status = require_file(path).stat()
    return read(path, status.st_size, status.st_mtime_ns)


# Sizes are choices: few people have as many models.
@lru_cache(maxsize=64)
def _read_facts(path: Path, nbytes: int, modified_ns: int) -> OfferFacts:
    header = read_model_header(path)
    n_params = sum(prod(t.shape) for t in header.tensors.values())
    return OfferFacts(
        type=file_type_text(header),
        n_ctx_train=shape_of(header).n_ctx_train,
        n_params=n_params,
        nbytes=nbytes,
        modified=modified_ns // 10**9,
    )


@lru_cache(maxsize=64)
def _read_modalities(mmproj: Path, _nbytes: int, _modified_ns: int) -> tuple[str, ...]:
    with suppress(G4Error):
        return encoded_media(read_header(mmproj))
    return ()


@lru_cache(maxsize=256)  # by size and date too: a file that changes is read again
def _is_runnable_file(path: Path, _nbytes: int, _date: str) -> bool:
    with suppress(G4Error):
        return is_runnable(read_model_header(path))
    return False


def _offer_file(word: str, aliases: Sequence[str]) -> Offer:
    """Return the offer of a word of the command line. Raises as Catalog."""
    found = find_model_file(word)
    shape_of(read_header(found.path))
    name = found.entry.label if found.entry else found.path.stem
    others = (word, found.entry.name) if found.entry else ()
    known = dict.fromkeys((*others, *aliases))
    return Offer(name, tuple(a for a in known if a != name), found.path, found.sha256 or "")


def _offer_entry(entry: Entry) -> Offer:
    """Return the offer of a file of the store; a name without a type means the usual type."""
    names = []
    with suppress(G4Error):
        if find_model_file(entry.name).path == entry.path:
            names.append(entry.name)
    return Offer(entry.label, tuple(names), entry.path, entry.sha256)
