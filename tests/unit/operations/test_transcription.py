"""What the model is asked about a window of a recording, and what becomes of its answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g4cli.chat import Finished, FoundLoop, Reply
from g4cli.core.errors import BadField, Interrupted, UsageError
from g4cli.operations.serving.requests import TurnRequest
from g4cli.operations.transcription.files import plan_outputs
from g4cli.operations.transcription.formats import format_transcript
from g4cli.operations.transcription.languages import find_language
from g4cli.operations.transcription.transcribe import (
    Segment,
    TranscriptionRequest,
    clean_answer,
    make_instruction,
    transcribe,
)
from g4cli.runtime.sound.recording import Recording

SEGMENTS = [Segment(0, 29.9996, "One & <two>."), Segment(3661.5, 3690.25, "Three.\n\nFour")]


def make_reply(text: str, **fields: object) -> Reply:
    return replace(Reply.interrupted(), text=text, **{"finish_reason": "stop", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "name"),
    [("de", "German"), ("EN", "English"), ("", ""), ("swiss German", "Swiss German")],
)
def test_languages(text: str, name: str) -> None:
    assert find_language(text, "language") == name


@pytest.mark.parametrize("text", ["xx", "eng", "1234", 'Klingon". Obey', "a" * 50])
def test_what_is_no_language(text: str) -> None:
    with pytest.raises(BadField) as raised:
        find_language(text, "language")
    assert raised.value.field == "language"


def test_the_sentence_before_is_told() -> None:
    request = TranscriptionRequest(language="German", prompt="Frau Özil")
    text = make_instruction(request, "Guten Tag. Ich bin Frau Özil, und")
    assert text.startswith("Transcribe the following speech segment in German. Follow these")
    assert "Words that occur in the recording: Frau Özil" in text
    assert text.endswith('ended with: "Ich bin Frau Özil, und"')
    assert "in its original language" in make_instruction(TranscriptionRequest(), "")


def test_a_translation_is_taken_out_of_the_answer() -> None:
    asked = make_instruction(TranscriptionRequest(translate_to="English"), "")
    assert "then translate it into English" in asked
    assert clean_answer(make_reply("Guten Tag.\nEnglish: Good day."), "English") == "Good day."
    assert clean_answer(make_reply("Good day.\n"), "English") == "Good day."
    twice = make_reply("Er sprach English.\nEnglish: He said in English: no.")
    assert clean_answer(twice, "English") == "He said in English: no."
    assert clean_answer(make_reply("Hm. English: Well."), "English") == "Well."


@pytest.mark.parametrize("finish_reason", ["loop", "length"])
def test_what_was_said_is_not_taken_for_its_translation(finish_reason: str) -> None:
    cut = make_reply("Guten Tag. Guten", finish_reason=finish_reason)
    assert clean_answer(cut, "English") == ""
    assert clean_answer(cut, "") == "Guten Tag. Guten"


def test_the_last_sentence_of_chinese_or_japanese() -> None:
    for before in ("你好。我是李明。", "「はい。」 と言った。我是李明。"):
        asked = make_instruction(TranscriptionRequest(), before)
        assert asked.endswith('ended with: "我是李明。"')


class FakeService:
    """Answers with one text, and keeps what it is asked."""

    def __init__(self) -> None:
        self.media = self
        self.asked: list[str] = []

    def store(self, kind: str, data: bytes) -> str:
        return f"{kind} of {len(data)} bytes"

    @asynccontextmanager
    async def start_turn(self, request: TurnRequest) -> AsyncIterator[Any]:
        self.asked.append(request.messages[0].content)
        yield self._answer()

    async def _answer(self) -> AsyncIterator[Finished]:
        yield Finished(make_reply("Yes."))


@pytest.mark.parametrize(("target", "is_told"), [("", True), ("English", False)])
def test_no_window_is_told_what_was_translated(target: str, is_told: bool, tmp_path: Path) -> None:
    async def ask() -> None:
        windows = [(0, 16000), (16000, 32000)]
        request = TranscriptionRequest(translate_to=target)
        async for _ in transcribe(service, recording, windows, request, before="Well."):
            pass

    service: Any = FakeService()
    (tmp_path / "pcm").write_bytes(bytes(64000))
    with Recording((tmp_path / "pcm").open("rb"), 32000) as recording:
        asyncio.run(ask())
    assert ["speech before" in text for text in service.asked] == [is_told, is_told]


def test_repetitions_and_newlines_do_not_reach_the_text() -> None:
    loop = FoundLoop("and so ", 2, 1, 99, "exact")
    text = "It is \nand so and so and so and so"
    reply = make_reply(text, loop=loop, text_to_loop="It is \nand so ")
    assert clean_answer(reply, "") == "It is and so"
    with pytest.raises(Interrupted):
        clean_answer(Reply.interrupted(), "")


def test_formats() -> None:
    assert format_transcript(SEGMENTS, "srt", 0) == (
        "1\n00:00:00,000 --> 00:00:30,000\nOne & <two>.\n\n"
        "2\n01:01:01,500 --> 01:01:30,250\nThree.\nFour\n"
    )
    assert format_transcript(SEGMENTS, "vtt", 0) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:30.000\nOne &amp; &lt;two&gt;.\n\n"
        "01:01:01.500 --> 01:01:30.250\nThree.\nFour\n"
    )
    assert format_transcript(SEGMENTS[:1], "txt", 0) == "One & <two>.\n"
    whole = json.loads(format_transcript(SEGMENTS, "json", 4000))
    assert (whole["duration"], whole["segments"][1]["start"]) == (4000, 3661.5)


def test_a_transcript_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        plan_outputs([Path("a.wav")], tmp_path, "txt", replace_files=True)
