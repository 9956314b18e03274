"""Answer the prompts of a file, for `g4 chat --prompts FILE --output FILE`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from g4cli.cli.views.plain_chat import PlainView
from g4cli.cli.views.reply import reply_to_json, tokens_to_json
from g4cli.core.errors import Interrupted
from g4cli.operations.chat.batch import answer_prompts, list_open_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from g4cli.chat import Reply
    from g4cli.cli.output import Output
    from g4cli.operations.chat.session import ChatSession
    from g4cli.operations.compare.prompts import Prompt


def answer_batch(out: Output, session: ChatSession, prompts: Sequence[Prompt], output: Path) -> int:
    """Append the answers that are missing to `output`; return the exit code of g4."""
    missing = list_open_prompts(prompts, output)
    n_done = len(prompts) - len(missing)
    if n_done:
        out.say(f"{n_done:,} of {len(prompts):,} prompts are answered already")
    with out.progress("answers", unit="steps") as progress:
        answered = 0

        def describe(reply: Reply) -> dict[str, Any]:
            nonlocal answered
            answered += 1
            progress(n_done + answered, len(prompts), "answers")
            data = reply_to_json(reply, session.load_s, session.engine.drafted)
            if session.request.n_probs is not None:
                data["logprobs"] = tokens_to_json(session.sampled)
            return data

        n_new = answer_prompts(
            session, missing, output, PlainView(out, "hide", streams=False), describe
        )
    data = {"prompts": len(prompts), "answered": n_done + n_new, "output": str(output)}
    out.result(data, lambda: out.say(f"{n_done + n_new:,} of {len(prompts):,} answers: {output}"))
    return 0 if n_new == len(missing) else Interrupted.exit_code
