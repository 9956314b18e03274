"""POST /v1/audio/transcriptions: OpenAI's form of writing down what is said in a recording.

Source: openai-python, src/openai/types/audio/transcription_create_params.py. Refused by their names
are times of words and log-probabilities, which are not known here, streams, and the naming of
speakers. The times of `srt`, `vtt` and `verbose_json` are those of windows of at most 30 s that are
cut at silences.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from g4cli.core.errors import BadField, RuntimeFailed
from g4cli.operations.serving.service import Service
from g4cli.operations.transcription.formats import (
    format_srt,
    format_vtt,
    join_text,
    transcript_to_json,
)
from g4cli.operations.transcription.languages import find_language
from g4cli.operations.transcription.transcribe import (
    MAX_PROMPT_CHARACTERS,
    WINDOW_S,
    Segment,
    TranscriptionRequest,
    require_audio,
    transcribe,
)
from g4cli.runtime.sound.recording import Recording, decode_recording
from g4cli.server.errors import make_invalid_error
from g4cli.server.multipart import FormPart, parse_multipart
from g4cli.server.streaming import send_json, wait_for_result
from g4cli.server.wire_model import ServiceParam, WireModel

router = APIRouter(tags=["audio"])
# Fields that may come several times. OpenAI's clients write [] behind their names; both are read.
_LISTS: Final = ("timestamp_granularities[]", "include[]")


class TranscriptionForm(WireModel):
    """The fields of the form besides `file`. A Literal with one value is what g4 does anyway."""

    model: str = ""
    language: Annotated[str, Field(max_length=64)] = ""
    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)] = ""
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0
    granularities: Annotated[
        list[Literal["segment"]], Field(alias="timestamp_granularities[]")
    ] = []  # noqa: RUF012 - pydantic copies defaults
    include: Annotated[list[str], Field(alias="include[]", max_length=0)] = []  # noqa: RUF012
    stream: Literal["false"] = "false"
    chunking_strategy: Literal["auto"] = "auto"


_FILE: Final = {"type": "string", "format": "binary", "description": "wav, mp3, flac or ogg"}


def _describe_form() -> dict[str, Any]:
    """Return the description of the body for /openapi.json."""
    schema = TranscriptionForm.model_json_schema()
    schema["properties"]["file"] = _FILE
    schema["required"] = ["file"]
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


@router.post(
    "/v1/audio/transcriptions",
    response_model=None,
    openapi_extra=_describe_form(),
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
@router.post("/audio/transcriptions", response_model=None, include_in_schema=False)
async def transcribe_recording(request: Request, service: ServiceParam) -> Response:
    """Write down what is said in a recording: as JSON, as text, or as subtitles."""
    body, content_type = await request.body(), request.headers.get("content-type", "")
    parts = await asyncio.to_thread(parse_multipart, body, content_type)
    form, file = _read_form(parts)
    asked = TranscriptionRequest(
        model=form.model,
        language=find_language(form.language, "language"),
        prompt=form.prompt.strip(),
        temperature=form.temperature,
    )
    if form.granularities and form.response_format != "verbose_json":
        what = "they need response_format=verbose_json"
        raise BadField("timestamp_granularities", what)
    require_audio(service, form.model)
    working = _transcribe_file(service, file, asked)
    seconds, segments = await wait_for_result(request, working)
    return _make_response(form, seconds, segments)


def _read_form(parts: list[FormPart]) -> tuple[TranscriptionForm, memoryview]:
    """Return the fields of the form and its file. Raises BadField or RequestValidationError."""
    fields: dict[str, Any] = {}
    file: memoryview | None = None
    for part in parts:
        if part.name == "file":
            if file is not None:
                raise BadField("file", "there are two of them")
            file = part.data
            continue
        name = f"{part.name}[]" if f"{part.name}[]" in _LISTS else part.name
        value = bytes(part.data).decode("utf-8", "replace")
        if name in _LISTS:
            fields.setdefault(name, []).append(value)
        elif name in fields:
            raise BadField(name[:64], "it is given twice")
        else:
            fields[name] = value
    if file is None:
        raise BadField("file", "this field is required")
    try:
        return TranscriptionForm.model_validate(fields), file
    except ValidationError as err:
        raise make_invalid_error(err, fields) from None


async def _transcribe_file(
    service: Service, data: memoryview, asked: TranscriptionRequest
) -> tuple[float, list[Segment]]:
    """Return the duration of a recording in seconds, and what is said in it."""
    decoding = asyncio.create_task(asyncio.to_thread(_decode_upload, data))
    try:
        recording = await asyncio.shield(decoding)
    except asyncio.CancelledError:
        # The client has gone. The thread cannot be stopped; what it returns is closed then.
        decoding.add_done_callback(_close_recording)
        raise
    with recording:
        windows = await asyncio.to_thread(recording.find_windows, WINDOW_S)
        found = [item async for item in transcribe(service, recording, windows, asked)]
        return recording.seconds, [segment for segment in found if segment.text]


def _decode_upload(data: memoryview) -> Recording:
    """Return the recording in `data`. Raises BadMedia or RuntimeFailed."""
    try:
        with tempfile.TemporaryDirectory(prefix="g4-serve-") as folder:
            path = Path(folder) / "recording"
            path.write_bytes(data)
            return decode_recording(path, name="the recording")
    except OSError as err:
        raise RuntimeFailed(f"the recording cannot be stored: {err.strerror}") from err


def _close_recording(decoding: asyncio.Task[Recording]) -> None:
    if not decoding.cancelled() and decoding.exception() is None:
        decoding.result().pcm.close()


def _make_response(form: TranscriptionForm, seconds: float, segments: list[Segment]) -> Response:
    kind = form.response_format
    if kind == "text":
        return PlainTextResponse(join_text(segments) + "\n")
    if kind in ("srt", "vtt"):
        return PlainTextResponse((format_srt if kind == "srt" else format_vtt)(segments))
    answer = transcript_to_json(segments, seconds)
    if kind == "json":
        answer = {"text": answer["text"], "usage": {"type": "duration", "seconds": round(seconds)}}
    else:
        answer = {"task": "transcribe", "language": form.language or None, **answer}
    return send_json(answer)
