"""Where the layers of a run are."""

from __future__ import annotations

from dataclasses import dataclass

from g4cli.estimate import Options


@dataclass(frozen=True, slots=True)
class Placement:
    """Options with the layers placed, in words where they are, and the option of chat for it."""

    options: Options
    reason: str
    chat_option: str = ""
