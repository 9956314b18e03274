"""The options of `g4 pull`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """The options of `g4 pull`. The defaults are those of the command line.

    `name` is the name in the store for a local file or folder (None: its own name). `offline` uses
    no network; `no_update` uses it only if the model is not on this disk; `restart` discards what
    was downloaded or made before. `mmproj` and `draft` request these files with the model.
    """

    name: str | None = None
    offline: bool = False
    no_update: bool = False
    restart: bool = False
    mmproj: bool = True
    draft: bool = False
