"""`g4 transcribe`: what is said in recordings, as text or subtitles."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

import g4cli.cli.options.chat as o
from g4cli.cli.options.common import ForceOpt, JsonOpt, QuietOpt
from g4cli.cli.output import make_output

_ENGINE = "Engine"


def transcribe(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Recordings: wav, mp3, flac or ogg, up to four hours each.",
            metavar="FILE...",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Model with an audio encoder (e2b, e4b, 12b) or a GGUF file. "
            "Default: the first of g4 list that has one.",
            show_default=False,
        ),
    ] = "",
    to: Annotated[
        Literal["txt", "srt", "vtt", "json"],
        typer.Option("--to", help="Form of the transcript; srt and vtt are subtitles."),
    ] = "txt",
    language: Annotated[
        str,
        typer.Option(
            "--language",
            metavar="LANG",
            help="Language that is spoken: de, or German. Default: the model finds it out.",
            show_default=False,
        ),
    ] = "",
    translate: Annotated[
        str,
        typer.Option(
            "--translate",
            metavar="LANG",
            help="Translate to this language: en, or English.",
            show_default=False,
        ),
    ] = "",
    prompt: Annotated[
        str,
        typer.Option(
            "--prompt",
            "-p",
            metavar="TEXT",
            help="Names and words that occur in the recording.",
            show_default=False,
        ),
    ] = "",
    out_path: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="File to write; with several recordings a folder. Default: standard output.",
            show_default=False,
        ),
    ] = None,
    force: ForceOpt = False,
    mmproj: o.MmprojOpt = None,
    threads: o.ThreadsOpt = 0,
    gpu_layers: o.GpuLayersOpt = "auto",
    device: o.DeviceOpt = None,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Write down what is said in recordings, as text or as subtitles.

    A recording is cut at its silences into windows of at most 30 seconds, whose
    times the subtitles have. If the command is stopped, what is done is kept: the
    same command goes on there.

    \b
    Examples:
      g4 transcribe interview.mp3
      g4 transcribe talk.wav --to srt --out talk.srt
      g4 transcribe *.flac --language de --translate en --out transcripts/
      g4 transcribe meeting.wav --model e4b --prompt "Özil, GGUF" --json
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.core.errors import Interrupted
    from g4cli.operations.serving.opening import make_service
    from g4cli.operations.serving.options import ServeOptions
    from g4cli.operations.transcription.files import (
        Transcript,
        choose_model,
        plan_outputs,
        transcribe_files,
        write_transcript,
    )
    from g4cli.operations.transcription.formats import format_transcript, transcript_to_json
    from g4cli.operations.transcription.languages import find_language
    from g4cli.operations.transcription.transcribe import TranscriptionRequest

    kind = "json" if json and out_path is None else to
    targets = plan_outputs(
        files, out_path, "txt" if json and out_path is None else to, replace_files=force
    )
    options = ServeOptions(
        models=[model] if model else (),
        ctx="2048",
        parallel=1,
        mmproj=mmproj,
        threads=threads,
        gpu_layers=gpu_layers,
        device=device,
        draft="off",
        state_cache="off",  # no window comes again
        keep_alive_s=-1,
    )
    spoken = find_language(language, "--language")
    written = find_language(translate, "--translate")
    service = make_service(options, out)
    request = TranscriptionRequest(
        model=choose_model(service, model),
        language=spoken,
        translate_to=written,
        prompt=prompt.strip(),
    )
    documents = []

    def finish(transcript: Transcript, target: Path | None) -> None:
        text = format_transcript(transcript.segments, kind, transcript.seconds)
        if target is not None:
            write_transcript(target, text)
            out.say(f"{transcript.path.name}: {target}")
        elif not json:
            if len(files) > 1:
                out.say(f"{transcript.path}:")
            out.write_text(text)
        data = transcript_to_json(transcript.segments, transcript.seconds)
        place = {"file": str(transcript.path), "path": str(target) if target else None}
        documents.append({**place, **data})
        transcript.saved.delete()

    async def run() -> None:
        try:
            left = iter(targets)
            async for transcript in transcribe_files(service, files, request, out):
                finish(transcript, next(left))
        finally:
            await service.close()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command goes on where it was") from None
    if json:
        out.result({"transcripts": documents}, lambda: None)
