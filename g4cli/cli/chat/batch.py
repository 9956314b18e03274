"""Answer the prompts of a file, for `g4 chat --prompts FILE --output FILE`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from g4cli.core.errors import ContextFull, Interrupted, UsageError
from g4cli.core.units import count_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from g4cli.chat import DraftStats, Reply
    from g4cli.cli.output import Output
    from g4cli.core.progress import Progress
    from g4cli.operations.chat.request import ChatRequest
    from g4cli.operations.prompts import Prompt
    from g4cli.prompt.reply import SampledToken

# Values of --draft with which several answers can be computed at once: those have no drafts.
_NO_DRAFTS: Final = ("auto", "off")


def answer_batch(
    out: Output, request: ChatRequest, prompts: Sequence[Prompt], output: Path, n_parallel: int
) -> int:
    """Append the answers that are missing to the file `output`; return the exit code of g4.

    `n_parallel` answers are computed at once; 0: as many as are faster. No model is loaded if no
    answer is missing. A prompt that is too long gets none, and decides the exit code. Raises what
    opening a model and answering raise.
    """
    if n_parallel > 1 and request.draft not in _NO_DRAFTS:
        raise UsageError(f"--draft {request.draft} needs --parallel 1", hint="--parallel 1")
    from g4cli.operations.chat.batch import (
        choose_parallel,
        list_open_prompts,
        name_encoder,
        sort_answers,
    )

    missing = list_open_prompts(prompts, output)
    n_before = len(prompts) - len(missing)
    if n_before:
        done = count_text(n_before, "prompt", "are", of=len(prompts))
        out.say(f"{done} answered already")
    n_new = n_skipped = 0
    if missing:
        n_parallel = min(n_parallel or choose_parallel(request), len(missing))
        with out.progress("answers", unit="steps") as progress:
            request = name_encoder(request, missing)
            batch = _Batch(out, request, missing, output, n_before, progress)
            batch.answer(n_parallel)
        n_new, n_skipped = batch.n_new, batch.n_skipped
        if batch.n_cut and request.forms:
            out.warn(
                f"{count_text(batch.n_cut, 'answer', 'were', of=n_new)} cut off: what is cut off "
                'may not obey its schema or grammar (its finish_reason is "length")'
            )
    is_complete = n_new + n_skipped == len(missing)
    if is_complete:
        sort_answers(prompts, output)
    n_done = n_before + n_new
    data = {"prompts": len(prompts), "answered": n_done, "output": str(output)}
    out.result(data, lambda: out.say(f"{n_done:,} of {len(prompts):,} answers: {output}"))
    if not is_complete:
        return Interrupted.exit_code
    return ContextFull.exit_code if n_skipped else 0


@dataclass(slots=True)
class _Batch:
    """The `prompts` that had no answer at the start; `n_before` others have one in `output`.

    `n_new` of them have got one since, of which `n_cut` were cut off, and `n_skipped` were too long
    for the context.
    """

    out: Output
    request: ChatRequest
    prompts: Sequence[Prompt]
    output: Path
    n_before: int
    progress: Progress
    n_new: int = 0
    n_cut: int = 0
    n_skipped: int = 0

    def answer(self, n_parallel: int) -> None:
        """Answer them, `n_parallel` at once, until all are answered or Ctrl-C ends it."""
        if n_parallel > 1:
            from g4cli.operations.chat.parallel import answer_together

            answer_together(
                self.request,
                self.prompts,
                n_parallel,
                self.out,
                self._save_answer,
                self._skip_prompt,
            )
            return
        # Imported before the rest: open_session starts the worker process, which loads llama.cpp
        # while this process imports the other modules.
        from g4cli.operations.chat.opening import open_session

        with open_session(self.request, self.out) as session:
            from g4cli.cli.views.plain_chat import PlainView
            from g4cli.operations.chat.batch import answer_prompts

            view = PlainView(self.out, "hide", streams=False)
            answer_prompts(session, self.prompts, view, self._save_answer, self._skip_prompt)

    def _skip_prompt(self, prompt: Prompt, err: ContextFull) -> None:
        self.out.warn(f"{prompt.id} has no answer: {err.message}")
        self.n_skipped += 1

    def _save_answer(
        self,
        prompt: Prompt,
        reply: Reply,
        sampled: Sequence[SampledToken],
        load_s: float,
        drafted: DraftStats | None,
    ) -> None:
        """Append an answer to the output file and count it.

        `sampled` are its tokens, `load_s` the seconds that loading the model took, `drafted` what
        became of drafts.
        """
        from g4cli.cli.views.reply import reply_to_json
        from g4cli.operations.chat.batch import append_answer
        from g4cli.prompt.reply import tokens_to_json

        fields: dict[str, Any] = reply_to_json(reply, load_s, drafted)
        if self.request.n_probs is not None:
            fields["logprobs"] = tokens_to_json(sampled)
        append_answer(self.output, prompt, fields)
        self.n_new += 1
        self.n_cut += reply.finish_reason == "length"
        self.progress(self.n_before + self.n_new, self.n_before + len(self.prompts), "answers")
