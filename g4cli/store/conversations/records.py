"""What comes back from the database of conversations. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from g4cli.prompt.messages import Message

if TYPE_CHECKING:
    from g4cli.chat import Reply


@dataclass(frozen=True, slots=True)
class Summary:
    """One conversation in a list.

    `title` is the first question until somebody renames it. `n_turns` counts the turns of all
    branches. `model` is the one that answered last, or "". `source` is "chat", "page", or the name
    of the JSON file that it was read from. Times are seconds since 1970, UTC. `head` is the id of
    the last turn of the branch that is shown, None without turns.
    """

    id: int
    title: str
    system: str
    source: str
    model: str
    created: float
    updated: float
    head: int | None
    n_turns: int


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One turn as it is stored; `parent` is the id of the turn before it, None for the first.

    `finish_reason` of an answer is that of the Reply, or "partial" while it is written: a process
    that was killed leaves it so. `settings` are the sampling parameters, `figures` what
    `reply_figures` returns. `media_sha256` are the hashes of the message's media, in their order,
    each "" if the file could not be read.
    """

    id: int
    parent: int | None
    message: Message
    created: float
    model: str = ""
    finish_reason: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    media_sha256: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation with the turns of one branch, from the first to the head.

    `siblings` has, for each of these turns, the ids of all turns with the same parent, itself
    included, oldest first: more than one where the conversation branches.
    """

    summary: Summary
    turns: tuple[StoredTurn, ...]
    siblings: Mapping[int, tuple[int, ...]]

    @property
    def messages(self) -> list[Message]:
        """The messages of the branch, without the system prompt."""
        return [turn.message for turn in self.turns]


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A conversation that was found; `excerpt` is the text around the first match in `turn`.

    `turn` is None if only the title matches.
    """

    summary: Summary
    turn: int | None
    excerpt: str


def reply_figures(reply: Reply) -> dict[str, Any]:
    """Return the figures of an answer to store: counts in tokens, times in seconds."""
    return {
        "prompt_tokens": reply.prompt_tokens,
        "reused_tokens": reply.reused_tokens,
        "completion_tokens": reply.completion_tokens,
        "prompt_s": round(reply.prompt_s, 3),
        "decode_s": round(reply.decode_s, 3),
    }
