"""The chat templates that were published for Gemma 4, recognized by their sha256.

Source: google/gemma-4-* on the Hugging Face Hub (the template of 2026-04-10 is its commit e51e7dc),
and models/templates/google-gemma-4-31B-it.jinja of ggml-org/llama.cpp@0c1e57098.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class PublishedTemplate:
    """A published revision of the chat template: its `date`, and the models it is for.

    `size` is "large" for 12B, 26B and 31B, whose answers without thinking begin with an empty
    thought, and "small" for E2B and E4B, whose answers do not. The revision of the launch has no
    newline after <|think|>, newlines around images and another format of tool results; llama.cpp
    calls it outdated.
    """

    sha256_prefix: str
    date: str
    size: Literal["large", "small", "all"]
    publisher: Literal["Google", "llama.cpp"] = "Google"
    is_launch: bool = False
    is_current: bool = False


PUBLISHED: Final = (
    PublishedTemplate("ae53464b", "2026-07-09", "large", is_current=True),
    PublishedTemplate("0a2c8073", "2026-07-09", "small", is_current=True),
    PublishedTemplate("94899c0f", "2026-04-10", "large"),
    PublishedTemplate("33204f1a", "2026-04-10", "small"),
    PublishedTemplate("85a08664", "2026-04-10", "large", publisher="llama.cpp"),
    PublishedTemplate("2dfbfc7d", "2026-04-02", "all", is_launch=True),
)
_MODELS: Final = {"large": " (12B, 26B, 31B)", "small": " (E2B, E4B)", "all": ""}


def find_published(template: str) -> PublishedTemplate | None:
    """Return the published revision that `template` is, character for character, or None."""
    digest = hash_template(template)
    return next((row for row in PUBLISHED if digest.startswith(row.sha256_prefix)), None)


def hash_template(template: str) -> str:
    """Return the sha256 of the text as UTF-8, as hexadecimal digits."""
    return hashlib.sha256(template.encode("utf-8", "replace")).hexdigest()


def describe_published(template: PublishedTemplate) -> str:
    """Return a name for the revision: "Google's template of 2026-04-10 (E2B, E4B)"."""
    launch = "launch " if template.is_launch else ""
    return f"{template.publisher}'s {launch}template of {template.date}{_MODELS[template.size]}"
