"""Answer many prompts with one loaded model; a run that was interrupted continues where it was.

Each answer is appended to the output as a line of JSON and flushed at once, so an interruption
costs the answers under way and nothing else. A prompt is done if the output has a line with its id
and the hash of what was asked. Answers that are computed together are complete in any order: when
all are there, the lines are put into the order of the prompts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from g4cli.chat import Conversation
from g4cli.core.errors import BadFile, ContextFull
from g4cli.core.files import atomic_file
from g4cli.core.split_name import list_parts
from g4cli.core.units import MIB
from g4cli.operations.fit.options import find_encoder
from g4cli.operations.json_lines import append_line, is_cut_off, read_lines
from g4cli.store.models import find_model_file

if TYPE_CHECKING:
    from g4cli.chat import DraftStats, Reply, View
    from g4cli.operations.chat.request import ChatRequest
    from g4cli.operations.chat.session import ChatSession
    from g4cli.operations.prompts import Prompt
    from g4cli.prompt.reply import SampledToken

# Choices from measurements (docs/benchmarks.md): how many answers are computed at once, and the
# size of a model from which on that is faster.
_AT_ONCE: Final = 4
_MIN_BYTES: Final = 512 * MIB

KeepAnswer: TypeAlias = (
    "Callable[[Prompt, Reply, Sequence[SampledToken], float, DraftStats | None], None]"
)
"""Takes an answer: its prompt, the reply, its tokens, the seconds that loading took, its drafts."""
SkipPrompt: TypeAlias = "Callable[[Prompt, ContextFull], None]"
"""Takes a prompt that is too long for the context, and the error that says so."""


def list_open_prompts(prompts: Sequence[Prompt], output: Path) -> list[Prompt]:
    """Return the prompts that have no answer in the file `output` yet.

    Raises BadFile if the file is something else than the output of such a run.
    """
    lines = read_lines(output)
    done = {answered for line in lines if (answered := _identify_line(line)) is not None}
    if lines and not done and not is_cut_off(lines[-1], "id"):
        raise BadFile(
            f"{output} does not hold answers of g4 chat --prompts", hint="--output other.jsonl"
        )
    return [prompt for prompt in prompts if (prompt.id, prompt.digest) not in done]


def answer_prompts(
    session: ChatSession,
    prompts: Sequence[Prompt],
    view: View,
    keep: KeepAnswer,
    skip: SkipPrompt,
) -> None:
    """Answer `prompts`, each in a conversation of its own, one after the other.

    `keep` is given each answer, `skip` each prompt that is too long. An interruption ends the run
    before its answer is kept. Raises what run_turn raises, but ContextFull.
    """
    system = session.conversation.system
    for prompt in prompts:
        session.conversation = Conversation(prompt.system or system)
        session.conversation.ask(prompt.text, prompt.media)
        try:
            reply = session.run_turn(view)
        except ContextFull as err:
            skip(prompt, err)
            continue
        if reply.finish_reason == "interrupted":
            return
        keep(prompt, reply, session.sampled, session.load_s, session.engine.drafted)


def choose_parallel(request: ChatRequest) -> int:
    """Return how many answers are computed at once where the user did not say.

    Several are faster where each token reads all weights from memory: a small model stays in the
    cache of the processor, and its time is that of handing tokens around (docs/benchmarks.md).
    Drafting works for one answer at a time.
    """
    if request.draft not in ("auto", "off"):
        return 1
    path = find_model_file(request.model).path
    parts = [path.with_name(name) for name in list_parts(path.name)]
    n_bytes = sum(part.stat().st_size for part in parts if part.is_file())
    return _AT_ONCE if n_bytes >= _MIN_BYTES else 1


def name_encoder(request: ChatRequest, prompts: Sequence[Prompt]) -> ChatRequest:
    """Return `request` with the encoder that `prompts` need, for which memory is planned then."""
    if request.mmproj or not any(prompt.media for prompt in prompts):
        return request
    return replace(request, mmproj=find_encoder(find_model_file(request.model).path))


def append_answer(output: Path, prompt: Prompt, fields: Mapping[str, Any]) -> None:
    """Append the answer to `prompt` to `output`. Raises UsageError if that cannot be written."""
    row = {"id": prompt.id, "sha256": prompt.digest, **fields}
    append_line(output, row, mode=0o600, option="--output")


def sort_answers(prompts: Sequence[Prompt], output: Path) -> None:
    """Put the answers in `output` into the order of `prompts`, after those to other prompts.

    What an interruption cut off is removed: it has been answered again.
    """
    places = {(prompt.id, prompt.digest): place for place, prompt in enumerate(prompts)}
    lines = read_lines(output)
    whole = [(line, answered) for line in lines if (answered := _identify_line(line)) is not None]
    whole.sort(key=lambda pair: places.get(pair[1], -1))
    ordered = [line for line, _ in whole]
    if ordered != lines:
        with atomic_file(output, mode=0o600) as file:
            file.write(b"".join(line + b"\n" for line in ordered))


def _identify_line(line: bytes) -> tuple[str, str] | None:
    """Return id and hash of the prompt that a line answers; None if an interruption cut it off."""
    try:
        row = json.loads(line)
        return str(row["id"]), str(row["sha256"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
