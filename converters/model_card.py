"""The front matter of README.md, in YAML.

    ---
    license: apache-2.0
    base_model:
      - google/gemma-4-E2B
    tags: [gemma, text-generation]
    ---

Scalars and lists of scalars at the top level are read; anything deeper (a model-index) is ignored.
The names and their order of preference: gguf-py/gguf/metadata.py (apply_metadata_heuristic),
llama.cpp@0c1e57098.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from g4cli.converters.folder_file import open_inside

# Only so much of the file is read, since PyYAML parses 0.1 MB/s; a longer front matter is ignored.
MAX_BYTES: Final = 1 << 16
_MAX_BRACKETS: Final = 1000  # a choice: cards have some ten

# GGUF key under general., in the order of llama.cpp's converter -> keys of a card; the first one
# present wins
TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "name": ("name", "model_name"),
    "author": ("author", "model_author", "model_creator"),
    "version": ("version", "model_version"),
    "organization": ("organization", "model_organization"),
    "finetune": ("finetune", "model_finetune"),
    "basename": ("basename", "model_basename", "model_type"),
    "description": ("description", "model_description"),
    "size_label": ("size_label", "model_size_label"),
    "license": ("license",),
    "license.name": ("license_name",),
    "license.link": ("license_link",),
    "source.url": ("url", "model_url"),
    "source.doi": ("doi", "model_doi"),
    "source.uuid": ("uuid", "model_uuid"),
    "source.repo_url": ("repo_url", "model_repo_url"),
}


@dataclass(frozen=True, slots=True)
class Card:
    """The entries of a front matter, {} if there is none; a scalar is a list of one."""

    entries: Mapping[str, list[str]]

    def find_text(self, what: str) -> str | None:
        """Return the entry for `what`, a key of TEXTS; a list is joined with commas."""
        names = self.find_names(*TEXTS[what])
        return None if names is None else ",".join(names)

    def find_names(self, *keys: str) -> list[str] | None:
        """Return the entries of the first of `keys` that is present."""
        return next((self.entries[key] for key in keys if key in self.entries), None)

    def join_names(self, *keys: str) -> list[str]:
        """Return the entries of all `keys` together."""
        return [item for key in keys for item in self.entries.get(key, [])]


def read_card(path: Path) -> Card:
    """Return the front matter of the model card at `path`, without entries if it cannot be parsed.

    Raises BadCheckpoint if `path` is not a regular file in its folder.
    """
    try:
        with open_inside(path) as file:
            return parse_card(file.read(MAX_BYTES).decode("utf-8", "replace"))
    except FileNotFoundError:
        return Card({})


def parse_card(text: str) -> Card:
    """Return the front matter of `text`, without entries if there is none or it is not YAML."""
    lines = text.splitlines()
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        return Card({})
    # YAML allows no tabs; gguf-py reads them as two spaces (load_model_card).
    matter = "\n".join(lines[1 : lines.index("---", 1)]).replace("\t", "  ")
    if sum(map(matter.count, "[{")) > _MAX_BRACKETS:  # PyYAML's time is quadratic in their depth
        return Card({})
    try:
        # The base loader makes only strings, lists and dictionaries, and ignores merge keys ("<<"),
        # with which a few lines can make millions of entries.
        data = yaml.load(matter, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return Card({})
    entries = {
        str(key): entry
        for key, value in (data.items() if isinstance(data, dict) else ())
        if (entry := _parse_entry(value))
    }
    return Card(entries)


def _parse_entry(value: object) -> list[str]:
    """Return `value` if it is a string, its strings if it is a list; [] for null and the rest."""
    if isinstance(value, str):
        return [] if value.strip() in ("", "~", "null", "Null", "NULL") else [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
