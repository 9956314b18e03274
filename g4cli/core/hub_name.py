"""The prefix of names on the Hugging Face Hub: hf:OWNER/REPO."""

from __future__ import annotations

from pathlib import Path
from typing import Final

HUB_PREFIX: Final = "hf:"


def is_on_hub(name: str | Path) -> bool:
    """Return whether `name` is an address on the hub (hf:OWNER/REPO...), not a local path."""
    return str(name).startswith(HUB_PREFIX)
