"""From a recording to its text: windows that are cut at silences, one answer for each.

Gemma 4's encoder takes at most 30 s at once. The last sentence of a window is given with the next
one, so that names keep their spelling and a sentence goes on as it began. Silence is not given to
the model: it would invent text for it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from g4cli.chat import Finished, Reply
from g4cli.core.errors import BadField, Interrupted
from g4cli.operations.serving.requests import TurnRequest
from g4cli.operations.serving.service import Service
from g4cli.prompt.messages import Message
from g4cli.runtime.sound.recording import RATE, Recording

WINDOW_S: Final = 30.0
# Choices. Fast speech has 100 words in 30 s, some 150 tokens: a model that writes more repeats
# itself.
_MAX_TOKENS: Final = 512
_CONTEXT_CHARACTERS: Final = 300  # of the sentence before
MAX_PROMPT_CHARACTERS: Final = 2000
# Chinese and Japanese have no space between sentences, but may have a closing bracket there.
_SENTENCE_END: Final = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])\s*(?=[\w「『])")
_FORMAT: Final = (
    "Follow these specific instructions for formatting the answer:\n"
    "* Only output the transcription, with no newlines.\n"
    "* When transcribing numbers, write the digits, i.e. write 1.7 and not one point seven, "
    "and write 3 instead of three."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptionRequest:
    """How to write a recording down.

    `model`: a name that the service offers. `language`: the English name of the language that is
    spoken, "" if the model shall find it out. `translate_to`: the English name of the language of
    the text, "" for the one that is spoken. `prompt`: names and words that occur.
    """

    model: str = ""
    language: str = ""
    translate_to: str = ""
    prompt: str = ""
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Segment:
    """What is said in a part of a recording, with its times in seconds."""

    start_s: float
    end_s: float
    text: str


def require_audio(service: Service, model: str) -> None:
    """Raise BadField unless `model` takes audio; UnknownModel if there is none of that name."""
    served = service.find_model(model)
    if "audio" not in served.modalities:
        raise BadField("model", f"{served.name} has no audio encoder: g4 pull e2b")


async def transcribe(
    service: Service,
    recording: Recording,
    windows: Sequence[tuple[int, int]],
    request: TranscriptionRequest,
    *,
    before: str = "",
) -> AsyncIterator[Segment]:
    """Yield the segment of each of `windows` of a recording, when it is done.

    Its text is "" if nothing was said. `before`: what was said before the first of them. Raises
    what Service.start_turn raises.
    """
    for start, end in windows:
        wav = await asyncio.to_thread(recording.read_wav, start, end)
        # A translation is not what was said: nothing is given with the next window then.
        told = "" if request.translate_to else before
        text = await _transcribe_window(service, wav, request, told)
        before = text or before
        yield Segment(start / RATE, end / RATE, text)


def make_instruction(request: TranscriptionRequest, before: str) -> str:
    """Return what the model is asked to do with the sound. Source: model card of Gemma 4, Audio."""
    spoken = f"in {request.language}" if request.language else "in its original language"
    target = request.translate_to
    if target:
        text = (
            f"Transcribe the following speech segment {spoken}, then translate it into {target}.\n"
            "When formatting the answer, first output the transcription, then one newline, "
            f"then output the string '{target}: ', then the translation in {target}."
        )
    else:
        text = f"Transcribe the following speech segment {spoken}. {_FORMAT}"
    if request.prompt:
        text += f"\nWords that occur in the recording: {request.prompt}"
    if before:
        last = _SENTENCE_END.split(before.strip())[-1][-_CONTEXT_CHARACTERS:]
        text += f'\nThe speech before this segment ended with: "{last}"'
    return text


async def _transcribe_window(
    service: Service, wav: bytes, request: TranscriptionRequest, before: str
) -> str:
    medium = service.media.store("audio", wav)
    asked = TurnRequest(
        model=request.model,
        messages=(Message("user", make_instruction(request, before), media=(medium,)),),
        sampling={"temp": request.temperature},
        max_tokens=_MAX_TOKENS,
    )
    async with service.start_turn(asked) as turn:
        async for event in turn:
            if isinstance(event, Finished):
                return clean_answer(event.reply, request.translate_to)
    raise Interrupted("the answer was stopped")


def clean_answer(reply: Reply, target: str) -> str:
    """Return the text of an answer: without repetitions at its end, the translation alone.

    It is "" if the answer was cut before its translation. Raises Interrupted if it was stopped.
    """
    if reply.finish_reason == "interrupted":
        raise Interrupted("the answer was stopped")
    text = reply.text if reply.loop is None else reply.text_to_loop
    if target:
        _, marker, translation = f"\n{text}".partition(f"\n{target}:")
        if not marker:  # a small model may forget the newline, or write the translation alone
            _, marker, translation = text.rpartition(f"{target}:")
        text = translation if marker or reply.finish_reason == "stop" else ""
    return " ".join(text.split())
