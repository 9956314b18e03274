"""The front matter of README.md: the small part of YAML that model cards use.

    ---
    license: apache-2.0
    base_model:
      - google/gemma-4-E2B
    tags: [gemma, text-generation]
    ---

Read are scalars and lists of scalars at the top level; anything deeper (a model-index) is passed over.
The names and their order of preference: gguf-py/gguf/metadata.py (apply_metadata_heuristic),
llama.cpp@0c1e57098.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

Entry: TypeAlias = "str | list[str]"

MAX_BYTES: Final = 1 << 20

# what g4 asks for -> keys of a card, the first that is there wins
TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "name": ("name", "model_name"),
    "author": ("author", "model_author", "model_creator"),
    "version": ("version", "model_version"),
    "organization": ("organization", "model_organization"),
    "description": ("description", "model_description"),
    "finetune": ("finetune", "model_finetune"),
    "basename": ("basename", "model_basename", "model_type"),
    "size_label": ("size_label", "model_size_label"),
    "source_url": ("url", "model_url"),
    "source_doi": ("doi", "model_doi"),
    "source_uuid": ("uuid", "model_uuid"),
    "source_repo_url": ("repo_url", "model_repo_url"),
    "license": ("license",),
    "license_name": ("license_name",),
    "license_link": ("license_link",),
}


@dataclass(frozen=True, slots=True)
class Card:
    """The entries of a front matter, {} if there is none."""

    entries: Mapping[str, Entry]

    def text(self, what: str) -> str | None:
        """Return one of TEXTS; a list is joined with commas."""
        for key in TEXTS[what]:
            value = self.entries.get(key)
            if value is not None:
                return ",".join(value) if isinstance(value, list) else value
        return None

    def _names(self, *keys: str) -> list[str] | None:
        """Return the entries of the first of `keys` that is there."""
        for key in keys:
            if key in self.entries:
                return _as_list(self.entries[key])
        return None

    @property
    def base_models(self) -> list[str] | None:
        """Return the models that this one comes from."""
        return self._names("base_model", "base_models", "base_model_sources")

    @property
    def datasets(self) -> list[str] | None:
        """Return the data that it was trained on."""
        return self._names("datasets", "dataset", "dataset_sources")

    @property
    def tags(self) -> list[str] | None:
        """Return tags and pipeline_tag together."""
        return self._joined("tags", "pipeline_tag")

    @property
    def languages(self) -> list[str] | None:
        """Return languages and language together."""
        return self._joined("languages", "language")

    def _joined(self, *keys: str) -> list[str] | None:
        found = [item for key in keys for item in _as_list(self.entries.get(key, []))]
        return found or None


def read_card(path: Path) -> Card:
    """Return the front matter of the model card at `path`; an absent or odd one has no entries."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return Card({})
    return parse_card(text)


def parse_card(text: str) -> Card:
    """Return the front matter of `text`."""
    lines = text.splitlines()
    if not lines or lines[0] != "---" or "---" not in lines[1:]:
        return Card({})
    entries: dict[str, Entry] = {}
    key: str | None = None
    for line in lines[1 : lines.index("---", 1)]:
        line = line.replace("\t", "  ")
        item = re.fullmatch(r"\s*- (.*)", line)
        match = re.fullmatch(r"([A-Za-z_][\w-]*):(?:\s+(.*))?", line)
        if match:
            key, value = match[1], _plain(match[2] or "")
            entries[key] = _flow(value) if value.startswith("[") else _scalar(value)
            if not value or value in ("|", ">", "|-", ">-"):
                entries[key] = []
        elif item and key is not None:
            held = entries.get(key)
            value = _plain(item[1])
            if isinstance(held, list) and not re.match(r"[\w-]+:(\s|$)", value):
                held.append(_scalar(value))
    return Card({k: v for k, v in entries.items() if v != []})


def _plain(value: str) -> str:
    """Return `value` without a comment and blanks around it."""
    if value[:1] in "\"'":
        return value.strip()
    return re.sub(r"\s+#.*", "", value).strip()


def _scalar(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return (
            value[1:-1].replace("''", "'") if value[0] == "'" else value[1:-1].replace('\\"', '"')
        )
    return value


def _flow(value: str) -> list[str]:
    return [_scalar(part.strip()) for part in value.strip("[]").split(",") if part.strip()]


def _as_list(value: Entry) -> list[str]:
    return value if isinstance(value, list) else [value]
