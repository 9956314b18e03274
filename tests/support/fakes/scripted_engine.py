"""A model that answers with what a test has written, at the pace that the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from g4cli.chat import Finished, FoundLoop, PromptRead, Reply, TurnOptions
from g4cli.operations.serving.catalog import Catalog
from g4cli.operations.serving.loaded import LoadedModel
from g4cli.operations.serving.pool import ModelPool
from g4cli.operations.serving.service import Service
from g4cli.prompt.messages import Part
from g4cli.prompt.render import render
from g4cli.prompt.reply import AnswerText, ThoughtText
from g4cli.prompt.template import Renderer
from g4cli.runtime.engine.async_client import Places
from g4cli.runtime.engine.messages import Loaded, RunTurn
from g4cli.runtime.engine.options import Sampling

Piece: TypeAlias = str | float | FoundLoop


class ScriptedEngine:
    """Answers each question by `script`, which gets the prompt and returns pieces of text.

    A piece that begins with "thought:" is one of the thought; a number is a pause in seconds; a
    FoundLoop ends the answer.
    """

    has_media = True
    n_starts = 1
    n_waiting = 0
    active_turns: Sequence[Any] = ()
    loaded = Loaded(
        n_ctx=4096, n_ctx_train=4096, n_vocab=1000, n_params=1, size_bytes=1 << 20,
        description="scripted", kv_bytes=1 << 20, compute_bytes=1 << 20, n_threads=1,
    )  # fmt: skip

    def __init__(self, script: Callable[[str], Sequence[Piece]]) -> None:
        self._script = script
        self.turn_places, self.question_places = Places(100), Places(100)
        self._prompt = ""

    async def tokens_of(
        self, parts: Sequence[Part], *, with_bos: bool = True, most_tokens: int = 0
    ) -> tuple[int, ...]:
        """Return one token for each part; the text is remembered for the script."""
        del with_bos, most_tokens
        self._prompt = "".join(part.text for part in parts)
        return tuple(range(len(parts)))

    async def run_turn(self, request: RunTurn) -> AsyncIterator[Any]:
        """Yield the answer that the script has for the prompt."""
        pieces = self._script(self._prompt)
        yield PromptRead(len(request.prompt), 0, 0.01)
        text = thought = ""
        loop: FoundLoop | None = None
        for piece in pieces:
            if isinstance(piece, FoundLoop):
                loop = piece
            elif isinstance(piece, float):
                await asyncio.sleep(piece)
            elif piece.startswith("thought:"):
                thought += piece.removeprefix("thought:")
                yield ThoughtText(piece.removeprefix("thought:"))
            else:
                text += piece
                yield AnswerText(piece)
        reply = Reply(
            text, thought, tool_calls=(), finish_reason="loop" if loop else "stop",
            context_full=False, prompt_tokens=len(request.prompt), reused_tokens=2,
            evaluated_tokens=3, prompt_s=0.01, decode_s=1.0,
            loop=loop, tokens=tuple(range(len(pieces))),
        )  # fmt: skip
        yield Finished(reply)

    async def close(self) -> None:
        """Do nothing: there is no process."""


def make_scripted_service(
    path: Path, script: Callable[[str], Sequence[Piece]], name: str = "scripted"
) -> Service:
    """Return a service whose only model, called `name`, answers by `script`.

    `path`: a GGUF that stands for it.
    """

    async def open_model(_name: str, _others: Sequence[str]) -> LoadedModel:
        engine: Any = ScriptedEngine(script)
        renderer = Renderer(render, False)
        return LoadedModel(path.stem, engine, renderer, Sampling(), TurnOptions())

    return Service(Catalog([str(path)], [name]), ModelPool(open_model))
