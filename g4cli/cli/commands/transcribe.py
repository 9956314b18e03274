"""`g4 transcribe`: what is said in recordings, as text or subtitles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import g4cli.cli.options.engine as e
import g4cli.cli.options.transcribe as t
from g4cli.cli.options.common import ForceOpt, JsonOpt, QuietOpt
from g4cli.cli.output import Output, make_output

if TYPE_CHECKING:
    from g4cli.operations.transcription.files import Transcript
    from g4cli.operations.transcription.formats import TranscriptFormat


def transcribe(
    files: t.RecordingsArg,
    model: t.ModelOpt = "",
    to: t.FormOpt = "txt",
    language: t.LanguageOpt = "",
    translate: t.TranslateOpt = "",
    prompt: t.PromptOpt = "",
    out_path: t.OutOpt = None,
    force: ForceOpt = False,
    mmproj: e.MmprojOpt = None,
    threads: e.ThreadsOpt = 0,
    gpu_layers: e.GpuLayersOpt = "auto",
    device: e.DeviceOpt = None,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Write down what is said in recordings, as text or as subtitles.

    A recording is cut at its silences into windows of at most 30 seconds, whose
    times the subtitles have. If the command is stopped, what is done is kept: run
    the same command again to resume.

    \b
    Examples:
      g4 transcribe interview.mp3
      g4 transcribe talk.wav --to srt --out talk.srt
      g4 transcribe *.flac --language de --translate en --out transcripts/
      g4 transcribe meeting.wav --model e4b --prompt "Özil, GGUF" --json
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.operations.chat.request import ChatRequest
    from g4cli.operations.serving.opening import make_service
    from g4cli.operations.serving.options import ServeOptions
    from g4cli.operations.transcription.files import (
        choose_model,
        plan_outputs,
        run_transcription,
    )
    from g4cli.operations.transcription.languages import find_language
    from g4cli.operations.transcription.transcribe import TranscriptionRequest

    # One JSON document holds any number of transcripts. As files, or as subtitles on standard
    # output, they are documents of their own, which plan_outputs may refuse.
    targets = plan_outputs(files, out_path, "txt" if json and not out_path else to, force)
    spoken = find_language(language, "--language")
    written = find_language(translate, "--translate")
    chat = ChatRequest(
        ctx="2048",
        mmproj=mmproj,
        threads=threads,
        gpu_layers=gpu_layers,
        device=device,
        draft="off",
        state_cache="off",  # no window comes again, neither as a prompt nor as a sound
    )
    models = [model] if model else ()
    options = ServeOptions(models=models, chat=chat, parallel=1, media_cache=False, keep_alive_s=-1)
    service = make_service(options, out)
    name = choose_model(service, model)
    request = TranscriptionRequest(
        model=name, language=spoken, translate_to=written, prompt=prompt.strip()
    )
    documents, targets_left = [], iter(targets)

    def finish(transcript: Transcript) -> None:
        target = next(targets_left)  # transcripts come in the order of the files
        _write_or_print(out, transcript, target, to)
        documents.append(_to_json(transcript, target))

    run_transcription(service, files, request, out, finish, writes_files=bool(out_path))
    if json:
        out.result({"transcripts": documents})


def _write_or_print(
    out: Output, transcript: Transcript, target: Path | None, kind: TranscriptFormat
) -> None:
    from g4cli.operations.transcription.files import write_transcript
    from g4cli.operations.transcription.formats import format_transcript

    text = format_transcript(transcript.segments, kind, transcript.seconds)
    if target is not None:
        write_transcript(target, text)
        out.say(f"{transcript.path.name}: {target}")
    elif out.mode != "json":
        out.say(f"{transcript.path.name}:")
        out.write_text(text)


def _to_json(transcript: Transcript, target: Path | None) -> dict[str, Any]:
    from g4cli.operations.transcription.formats import transcript_to_json

    place = {"file": str(transcript.path), "path": str(target) if target else None}
    return place | transcript_to_json(transcript.segments, transcript.seconds)
