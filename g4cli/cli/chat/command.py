"""A slash command as a value, which the line editor completes and slash_commands lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from g4cli.cli.chat.controller import ChatController


@dataclass(frozen=True, slots=True)
class Command:
    """One slash command. `run` takes the controller and the rest of the line.

    `usage` shows its argument in /help. `choices`, `takes_path` and `complete` say what Tab
    completes after it; `complete` returns words and what they are.
    """

    name: str
    usage: str
    help: str
    run: Callable[[ChatController, str], None]
    takes_path: bool = False
    choices: tuple[str, ...] = ()
    complete: Callable[[str], Iterable[tuple[str, str]]] | None = None
