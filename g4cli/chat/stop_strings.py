"""Stop strings: texts that end an answer and are not part of it.

A stop string may begin in one token and end in a later one. So the end of the text is held back
while it is the beginning of a stop string, and released when it turns out to be none.
"""

from __future__ import annotations

from collections.abc import Sequence

from g4cli.prompt.reply import AnswerText, ReplyEvent, SampledToken


class StopFilter:
    """Watches the texts of one answer for stop strings; thoughts and tool calls pass."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""  # the end of the text, which may be the beginning of a stop string
        # With where in `_held` the text of their event begins.
        self._held_tokens: list[tuple[int, SampledToken]] = []
        self.found = ""  # the stop string that ended the answer

    def filter_events(self, events: Sequence[ReplyEvent]) -> list[ReplyEvent]:
        """Return the events that cannot be part of a stop string; nothing once one was `found`."""
        if not self._stops:
            return [*events]
        passed: list[ReplyEvent] = []
        for event in events:
            if self.found:
                break
            if isinstance(event, AnswerText):
                passed += self._add_text(event)
            else:
                passed += [*self.release_held(), event]
        return passed

    def release_held(self) -> list[ReplyEvent]:
        """Return the text that was held back: no stop string can be completed any more."""
        return [] if self.found else self._release(len(self._held))

    def _add_text(self, event: AnswerText) -> list[ReplyEvent]:
        """Return the text that can be released now that more of it has come."""
        self._held_tokens += [(len(self._held), token) for token in event.tokens]
        self._held += event.text
        offsets = [(self._held.find(stop), stop) for stop in self._stops]
        # The first one in the text so far; of those that begin at one place, the longest. As in
        # llama-server, none is waited for that begins earlier or is longer and is not yet complete.
        found = [(offset, -len(stop), stop) for offset, stop in offsets if offset >= 0]
        if found:
            offset, _, self.found = min(found)
            return self._release(offset)
        return self._release(len(self._held) - self._count_held())

    def _count_held(self) -> int:
        """Return the length of the longest end of the text with which a stop string begins."""
        longest = max(map(len, self._stops)) - 1
        for count in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-count:]) for stop in self._stops):
                return count
        return 0

    def _release(self, count: int) -> list[ReplyEvent]:
        """Return the first `count` characters of what is held, with the tokens of their events."""
        text, self._held = self._held[:count], self._held[count:]
        tokens = tuple(token for offset, token in self._held_tokens if offset < count)
        self._held_tokens = [
            (offset - count, token) for offset, token in self._held_tokens if offset >= count
        ]
        return [AnswerText(text, tokens)] if text else []
