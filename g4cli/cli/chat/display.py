"""How a chat is shown and what is written: the options of `g4 chat` that do not reach the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from g4cli.cli.settings import Origin


@dataclass(frozen=True, slots=True)
class ChatDisplay:
    """How `g4 chat` shows answers and where it writes them; made by the command from its options.

    `thoughts` is show, fold or hide. `stats`: show speeds after each answer. `banner`: show model
    and context at the start. `private`: save neither the conversation nor the lines that were
    typed. `origins` says where the value of each option comes from (`cli.settings`).

    The others concern a single question (--prompt): `drawing` is the file for the drawing in its
    answer, `output` the file for the answer; `only_code` prints its first code block only,
    `stream_json` its events as JSON lines.
    """

    thoughts: str = "show"
    stats: bool = False
    banner: bool = True
    drawing: Path | None = None
    private: bool = False
    output: Path | None = None
    only_code: bool = False
    stream_json: bool = False
    origins: Mapping[str, Origin] = field(default_factory=dict)
