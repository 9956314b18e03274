"""g4 eval: how well a model predicts, and how much a quantised one differs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from g4cli.cli.options.common import JsonOpt, ModelArg, QuietOpt, check_threads
from g4cli.cli.output import output_for


def eval_(
    model: ModelArg,
    text: Annotated[
        Path,
        typer.Option("--text", help="Chats (.jsonl with messages) or plain text.", metavar="FILE"),
    ],
    against: Annotated[
        str | None, typer.Option("--against", help="The model to compare with, best the BF16 file.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", help="Take only the first documents; 0: all.", min=0)
    ] = 0,
    threads: Annotated[
        int, typer.Option("--threads", help="0: the cores.", min=0, callback=check_threads)
    ] = 0,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Measure a model on given answers: perplexity, and how far it is from another file.

    Text is put into Gemma's chat frame and only the model's turns are scored:
    on raw text the perplexity of an instruction-tuned Gemma is meaningless.
    --against adds the mean KL divergence and how often both have the same
    first choice; both models are in memory then. ± is one standard error.

    \b
    Examples:
      g4 eval tiny-q4_0.gguf --text chats.jsonl --against tiny-bf16.gguf
      g4 eval e2b:q4_0 --text book.txt --limit 20 --json
    """
    out = output_for(as_json=json, quiet=quiet)
    from g4cli.cli.views.eval import draw_evaluation, evaluation_data
    from g4cli.operations.models import prepare_model
    from g4cli.runtime.measure.client import measure_quality
    from g4cli.runtime.measure.eval_text import read_conversations
    from g4cli.runtime.measure.messages import RunEvaluation

    conversations = read_conversations(text)
    conversations = conversations[: limit or len(conversations)]
    loadable = prepare_model(model, out)
    base = prepare_model(against, out) if against else None
    with out.progress(f"evaluate {loadable.path.name}", unit="steps") as progress:
        request = RunEvaluation(
            loadable.path,
            tuple(conversations),
            base.path if base else None,
            loadable.use_extra_bufts,
            threads,
        )
        found = measure_quality(request, progress)
    out.result(
        evaluation_data(model, against, found),
        lambda: draw_evaluation(out, model, against, found),
        brief=f"{found.score.perplexity:.4f}",
    )
