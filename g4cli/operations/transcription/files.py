"""Transcribe recordings for the terminal: one after another, with what is done kept on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.core.errors import BadField, Interrupted, UnknownModel, UsageError
from g4cli.core.files import atomic_file, require_file, require_file_target
from g4cli.core.paths import state_dir
from g4cli.core.reporter import Reporter
from g4cli.operations.serving.service import Service
from g4cli.operations.transcription.formats import TranscriptFormat
from g4cli.operations.transcription.saved import SavedSegments
from g4cli.operations.transcription.transcribe import (
    WINDOW_S,
    Segment,
    TranscriptionRequest,
    require_audio,
    transcribe,
)
from g4cli.runtime.sound.recording import RATE, Recording, decode_recording

_FOLDER: Final = "transcripts"


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is said in the file `path`, which lasts `seconds`; `saved` are its parts on the disk."""

    path: Path
    seconds: float
    segments: tuple[Segment, ...]
    saved: SavedSegments


def choose_model(service: Service, name: str) -> str:
    """Return the name of the model to use; "" is the first on offer that takes audio.

    Raises UsageError if it takes none, or UnknownModel.
    """
    if name:  # then the service offers that model alone
        try:
            require_audio(service, "")
        except BadField as err:
            raise UsageError(err.message, hint="g4 pull e2b") from None
        return ""
    for model in service.list_models():
        if "audio" in model.modalities:
            return model.name
    raise UnknownModel("no model with an audio encoder was pulled", hint="g4 pull e2b")


def plan_outputs(
    files: Sequence[Path], out: Path | None, kind: TranscriptFormat, replace_files: bool
) -> list[Path | None]:
    """Return where the transcript of each of `files` goes; None: standard output.

    With several files `out` is a folder. Raises UsageError if a file exists or two would be one.
    """
    if out is None:
        if len(files) > 1 and kind != "txt":
            what = f"{len(files)} transcripts in the form {kind} are not one document"
            raise UsageError(what, hint="--out FOLDER")
        return [None for _ in files]
    is_folder = out.is_dir() or len(files) > 1
    paths = [out / f"{file.stem}.{kind}" if is_folder else out for file in files]
    if len(set(paths)) < len(paths):
        raise UsageError("two recordings have the same name", hint="transcribe them one by one")
    for path in paths:
        require_file_target(path)
        if path.exists() and not replace_files:
            raise UsageError(f"{path} already exists", hint="add --force to overwrite it")
    return list(paths)


def write_transcript(path: Path, text: str) -> None:
    """Write a transcript to `path`."""
    data = text.encode()
    with atomic_file(path, expected_bytes=len(data)) as file:
        file.write(data)


def run_transcription(
    service: Service,
    files: Sequence[Path],
    request: TranscriptionRequest,
    reporter: Reporter,
    finish: Callable[[Transcript], None],
    *,
    writes_files: bool,
) -> None:
    """Call `finish` with the transcript of each of `files`, in order; then `service` is closed.

    `writes_files`: `finish` writes files, which the next call has to replace. Raises FileMissing,
    BadMedia, what opening the model and answering raise, and Interrupted at Ctrl-C. The next call
    with the same options finds what was done of all files until then.
    """
    for path in files:
        require_file(path)
    n_finished = 0

    def count_finished(transcript: Transcript) -> None:
        nonlocal n_finished
        finish(transcript)
        n_finished += 1

    try:
        asyncio.run(_transcribe_files(service, files, request, reporter, count_finished))
    except KeyboardInterrupt:
        force = " with --force" if writes_files and n_finished else ""
        raise Interrupted(f"stopped; run the same command again{force} to resume") from None


async def _transcribe_files(
    service: Service,
    files: Sequence[Path],
    request: TranscriptionRequest,
    reporter: Reporter,
    finish: Callable[[Transcript], None],
) -> None:
    done = []
    try:
        for path in files:
            with decode_recording(path) as recording:
                made = await _transcribe_recording(service, path, recording, request, reporter)
            finish(made)
            done.append(made.saved)
        for saved in done:
            saved.delete()
    finally:
        await service.close()


async def _transcribe_recording(
    service: Service,
    path: Path,
    recording: Recording,
    request: TranscriptionRequest,
    reporter: Reporter,
) -> Transcript:
    windows = recording.find_windows(WINDOW_S)
    saved = SavedSegments(state_dir() / _FOLDER, _make_key(service, path, request))
    segments = _match_windows(saved.load(), windows)
    if not saved.write(segments):
        reporter.warn(
            f"{path.name}: what is done is lost if g4 is stopped, since it cannot be saved"
        )
    total = round(recording.seconds)
    label = f"transcribe {path.name}"
    if segments:
        done = f"{segments[-1].end_s:,.0f} of {total:,} s"
        reporter.say(f"{path.name}: {done} were transcribed before and are kept")
    with reporter.progress(label, unit="steps") as progress:
        progress(round(segments[-1].end_s) if segments else 0, total, label)
        before = next((s.text for s in reversed(segments) if s.text), "")
        rest = windows[len(segments) :]
        async for segment in transcribe(service, recording, rest, request, before=before):
            saved.add(segment)
            segments.append(segment)
            progress(round(segment.end_s), total, label)
    spoken = tuple(segment for segment in segments if segment.text)
    return Transcript(path, recording.seconds, spoken, saved)


def _make_key(service: Service, path: Path, request: TranscriptionRequest) -> list[object]:
    """Return what the text of a recording depends on."""
    model, status = service.find_model(request.model), path.stat()
    return [
        [str(path.resolve()), status.st_size, status.st_mtime_ns],
        [str(model.path), model.nbytes, model.modified],
        [request.language, request.translate_to, request.prompt, request.temperature],
    ]


def _match_windows(
    segments: Sequence[Segment], windows: Sequence[tuple[int, int]]
) -> list[Segment]:
    """Return those of `segments` that are the first of `windows`."""
    matching = []
    for segment, (start, end) in zip(segments, windows, strict=False):
        if (segment.start_s, segment.end_s) != (start / RATE, end / RATE):
            break
        matching.append(segment)
    return matching
