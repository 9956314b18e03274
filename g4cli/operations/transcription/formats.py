"""Transcripts as text, as subtitles (SubRip, WebVTT) and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any, Literal, TypeAlias

from g4cli.operations.transcription.transcribe import Segment

TranscriptFormat: TypeAlias = Literal["txt", "srt", "vtt", "json"]


def format_transcript(segments: Sequence[Segment], kind: TranscriptFormat, seconds: float) -> str:
    """Return the transcript of a recording of so many seconds, with a newline at its end."""
    if kind == "json":
        return (
            json.dumps(transcript_to_json(segments, seconds), ensure_ascii=False, indent=1) + "\n"
        )
    if kind == "txt":
        return "\n".join(segment.text for segment in segments) + "\n"
    return format_srt(segments) if kind == "srt" else format_vtt(segments)


def join_text(segments: Sequence[Segment]) -> str:
    """Return the text of all segments as one line."""
    return " ".join(segment.text for segment in segments)


def format_srt(segments: Sequence[Segment]) -> str:
    """Return subtitles in the form of SubRip: numbered, with a comma in each time."""
    return "\n".join(
        f"{number}\n{_format_times(segment, ',')}\n{_one_paragraph(segment.text)}\n"
        for number, segment in enumerate(segments, 1)
    )


def format_vtt(segments: Sequence[Segment]) -> str:
    """Return subtitles in the form of WebVTT (https://www.w3.org/TR/webvtt1/)."""
    cues = [
        f"{_format_times(segment, '.')}\n{escape(_one_paragraph(segment.text), quote=False)}\n"
        for segment in segments
    ]
    return "\n".join(["WEBVTT\n", *cues])


def transcript_to_json(segments: Sequence[Segment], seconds: float) -> dict[str, Any]:
    """Return the text, the duration in seconds, and each segment with its times in seconds."""
    return {
        "text": join_text(segments),
        "duration": round(seconds, 3),
        "segments": [
            {
                "id": number,
                "start": round(segment.start_s, 3),
                "end": round(segment.end_s, 3),
                "text": segment.text,
            }
            for number, segment in enumerate(segments)
        ],
    }


def _one_paragraph(text: str) -> str:
    # An empty line would end a subtitle.
    return "\n".join(line for line in text.splitlines() if line.strip())


def _format_times(segment: Segment, mark: str) -> str:
    return f"{_format_time(segment.start_s, mark)} --> {_format_time(segment.end_s, mark)}"


def _format_time(seconds: float, mark: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"
