"""Answer many prompts with one loaded model; a run that was interrupted continues where it was.

Each answer is appended to the output as a line of JSON and flushed at once, so an interruption
costs the answer under way and nothing else. A prompt is done if the output has a line with its id
and the hash of what was asked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from g4cli.chat import Conversation
from g4cli.core.errors import BadFile, UsageError
from g4cli.core.files import open_file
from g4cli.core.units import GIB, size_text

if TYPE_CHECKING:
    from g4cli.chat import Reply
    from g4cli.operations.chat.session import ChatSession, View
    from g4cli.operations.compare.prompts import Prompt

_MAX_BYTES: Final = 2 * GIB


def list_open_prompts(prompts: Sequence[Prompt], output: Path) -> list[Prompt]:
    """Return the prompts that have no answer in the file `output` yet.

    Raises BadFile if the file is something else than the output of such a run.
    """
    done = _read_done(output)
    return [prompt for prompt in prompts if (prompt.id, prompt.digest) not in done]


def answer_prompts(
    session: ChatSession,
    prompts: Sequence[Prompt],
    output: Path,
    view: View,
    describe: Callable[[Reply], Mapping[str, Any]],
) -> int:
    """Append the answers to `output` and return how many there are.

    An interruption ends the run before its answer is written. `describe` returns the fields of a
    line. Raises UsageError if the file cannot be written, and what run_turn raises.
    """
    system = session.conversation.system
    for number, prompt in enumerate(prompts):
        session.conversation = Conversation(prompt.system or system)
        session.conversation.ask(prompt.text, prompt.media)
        reply = session.run_turn(view)
        if reply.finish_reason == "interrupted":
            return number
        _append_line(output, {"id": prompt.id, "sha256": prompt.digest, **describe(reply)})
    return len(prompts)


def _read_done(output: Path) -> set[tuple[str, str]]:
    if not output.exists():
        return set()
    with open_file(output) as file:
        if os.fstat(file.fileno()).st_size > _MAX_BYTES:
            raise BadFile(f"{output} is larger than {size_text(_MAX_BYTES)}")
        lines = file.read(_MAX_BYTES).splitlines()
    done = set()
    for line in lines:
        try:
            row = json.loads(line)
            done.add((str(row["id"]), str(row["sha256"])))
        except (ValueError, LookupError, TypeError, RecursionError):
            continue  # a line that an interruption cut off
    if not done and any(line.strip() for line in lines):
        raise BadFile(
            f"{output} does not hold answers of g4 chat --prompts", hint="--output other.jsonl"
        )
    return done


def _append_line(output: Path, row: Mapping[str, Any]) -> None:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(output, flags, 0o600)
    except OSError as err:
        raise UsageError(
            f"{output} cannot be written: {err.strerror}", hint="--output FILE in another folder"
        ) from err
    with os.fdopen(descriptor, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        file.write(("\n" if is_cut else "").encode() + json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(descriptor)
