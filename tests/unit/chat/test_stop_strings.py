"""Texts that end an answer, and the tokens told with what comes before them."""

from __future__ import annotations

import pytest

from g4cli.chat.stop_strings import StopFilter
from g4cli.prompt.reply import AnswerText, SampledToken, ThoughtText


def feed(stops: StopFilter, *texts: str) -> list[str]:
    """Return what each text releases, and what the end of the answer does."""
    released = []
    for text in texts:
        events = stops.filter_events([AnswerText(text)])
        released.append("".join(e.text for e in events if isinstance(e, AnswerText)))
    return [*released, "".join(e.text for e in stops.release_held() if isinstance(e, AnswerText))]


@pytest.mark.parametrize(
    ("stops", "texts", "released", "found"),
    [
        (["END"], ["a E", "N", "D b"], ["a ", "", "", ""], "END"),
        (["END"], ["a E", "N", "T b"], ["a ", "", "ENT b", ""], ""),
        (["END"], ["a E", "N"], ["a ", "", "EN"], ""),
        (["\n\n"], ["a\n", "b\n", "\nc"], ["a", "\nb", "", ""], "\n\n"),
        # The one that begins first counts; of two that begin together, the longer one.
        (["lo", "hello"], ["say hello"], ["say ", ""], "hello"),
        (["aab"], ["aaa", "b"], ["a", "", ""], "aab"),
        (["", "x"], ["abc"], ["abc", ""], ""),
    ],
)
def test_texts(stops: list[str], texts: list[str], released: list[str], found: str) -> None:
    stop_filter = StopFilter(stops)
    assert feed(stop_filter, *texts) == released
    assert stop_filter.found == found


def test_thoughts_pass_and_release_what_was_held() -> None:
    stops = StopFilter(["END"])
    assert stops.filter_events([AnswerText("E")]) == []
    thought = ThoughtText("END")
    assert stops.filter_events([thought]) == [AnswerText("E"), thought]


def test_tokens_come_with_their_text() -> None:
    stops = StopFilter(["END"])
    first, second, third = (SampledToken(n, b"", 0.0) for n in range(3))
    assert stops.filter_events([AnswerText("a E", (first,))]) == [AnswerText("a ", (first,))]
    assert stops.filter_events([AnswerText("N", (second,))]) == []
    assert stops.filter_events([AnswerText("x", (third,))]) == [AnswerText("ENx", (second, third))]
