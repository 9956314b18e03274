"""How a name says that it means something on the Hugging Face Hub: it begins with `hf:`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

HUB_PREFIX: Final = "hf:"


def is_on_hub(name: str | Path) -> bool:
    """Return whether `name` is hf:OWNER/REPO..., as users and messages write what lies on the
    hub.
    """
    return str(name).startswith(HUB_PREFIX)
