"""`g4 eval`: perplexity of a model, and KL divergence from another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import g4cli.cli.options.engine as e
from g4cli.cli.options.common import JsonOpt, ModelArg, QuietOpt, model_option
from g4cli.cli.output import make_output


def eval_(
    model: ModelArg,
    text: Annotated[
        Path,
        typer.Option(
            "--text",
            help="Conversations (.jsonl with messages, or a saved chat) or plain text; - reads "
            "standard input.",
        ),
    ],
    against: Annotated[
        str | None,
        model_option("--against", help="Model to compare with, preferably BF16."),
    ] = None,
    limit: Annotated[
        int,
        typer.Option("--limit", help="Score only the first N answers or passages; 0: all.", min=0),
    ] = 0,
    threads: e.ThreadsOpt = 0,
    rpc: e.RpcOpt = "",
    tensor_split: e.TensorSplitOpt = "",
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Measure the perplexity of a model on given answers, and its KL divergence from another.

    The text is formatted with Gemma's chat template and only the model's turns
    are scored, since the perplexity of an instruction-tuned model on raw text
    means little. --against adds the mean KL divergence from another model, and
    the share of tokens on which both agree about the most probable one; both
    models are in memory at once. ± is one standard error.

    \b
    Examples:
      g4 eval tiny-q4_0.gguf --text chats.jsonl --against tiny-bf16.gguf
      g4 eval e2b:q4_0 --text book.txt --limit 20 --json
      g4 chats export last --json | g4 eval e2b:q4_0 --text -
      g4 eval 31b:q8_0 --text chats.jsonl --rpc 192.168.1.20:50052
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.eval import draw_evaluation, evaluation_to_json
    from g4cli.operations.models import make_model_options, prepare_model
    from g4cli.operations.workers import place_layers_of_run
    from g4cli.runtime.measure.client import run_measurement
    from g4cli.runtime.measure.eval_text import MAX_CTX, read_conversations
    from g4cli.runtime.measure.messages import RunEvaluation

    workers = e.make_worker_options(rpc, tensor_split)
    conversations = read_conversations(text)
    conversations = conversations[: limit or len(conversations)]
    loadable = prepare_model(model, out)
    reference = prepare_model(against, out) if against else None
    options = make_model_options(loadable, workers=workers)
    options = place_layers_of_run(loadable, options, workers, n_ctx=MAX_CTX, reporter=out)
    with out.progress(f"evaluate {loadable.path.name}", unit="steps") as progress:
        request = RunEvaluation(
            loadable.path,
            options,
            tuple(conversations),
            reference.path if reference else None,
            threads,
        )
        evaluation = run_measurement(request, progress)
    out.result(
        evaluation_to_json(model, against, evaluation),
        lambda: draw_evaluation(out, model, against, evaluation),
        brief=f"{evaluation.score.perplexity:.4f}",
    )
