"""One loaded model of the server: from a TurnRequest to the events of its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from g4cli.chat import Finished, Reply, TurnEvent, TurnOptions
from g4cli.core.errors import (
    BadField,
    BadMedia,
    ContextFull,
    RuntimeFailed,
    UsageError,
    too_many_tokens,
)
from g4cli.operations.chat.session import MAX_THOUGHT_TOKENS
from g4cli.operations.serving.requests import TurnRequest
from g4cli.prompt.answer_grammar import AnswerForm, make_call_grammar, make_grammar
from g4cli.prompt.messages import Message, Part
from g4cli.prompt.render import PromptStyle, render_thought
from g4cli.prompt.template import TEXT_LIMIT, Renderer
from g4cli.runtime.engine.async_client import AsyncEngine
from g4cli.runtime.engine.messages import RunTurn
from g4cli.runtime.engine.options import RANDOM_SEED, GrammarScope, Sampling


class LoadedModel:
    """A model that answers. `name` is what clients call it; it computes `n_slots` answers at once.

    `sampling` and `options` hold where a request says nothing.
    `n_users`: how many requests have it now. `used_at` is when the last one ended, by the clock
    `time.monotonic`; `loaded_at` is in Unix seconds.
    """

    def __init__(
        self,
        name: str,
        engine: AsyncEngine,
        renderer: Renderer,
        sampling: Sampling,
        options: TurnOptions,
        *,
        n_slots: int = 1,
    ) -> None:
        self.name, self.engine, self.n_slots = name, engine, n_slots
        self.renderer, self.sampling, self.options = renderer, sampling, options
        self.n_users = 0
        self.used_at = time.monotonic()
        self.loaded_at = time.time()

    @property
    def n_ctx(self) -> int:
        """Return the tokens of context that one request may have."""
        return self.engine.loaded.n_ctx

    @property
    def memory_bytes(self) -> int:
        """Return what llama.cpp reports for weights, KV cache and compute buffers together."""
        loaded = self.engine.loaded
        return loaded.size_bytes + loaded.kv_bytes + loaded.compute_bytes

    def require_tokens(self, tokens: Sequence[int], field: str) -> None:
        """Raise BadField, which names `field`, unless all token ids are in the vocabulary."""
        n_vocab = self.engine.loaded.n_vocab
        if any(not 0 <= token < n_vocab for token in tokens):
            raise BadField(field, f"a token id is outside of the {n_vocab:,} of this model")

    async def make_prompt(self, request: TurnRequest) -> tuple[int, ...]:
        """Return the tokens of the prompt of `request`.

        Raises UsageError, BadMedia, BadFile, ContextFull or RuntimeFailed.
        """
        if isinstance(request.prompt, tuple):
            self.require_tokens(request.prompt, "prompt")
            return request.prompt
        parts = await self.render_parts(request)
        require_readable(sum(len(part.text) for part in parts))
        try:
            return await self.engine.tokens_of(parts)
        except BadMedia as err:
            raise _name_medium(err, request) from None

    async def render_parts(self, request: TurnRequest) -> list[Part]:
        """Return the parts of the prompt of `request`. Raises UsageError or BadFile."""
        if isinstance(request.prompt, str):
            return [Part(request.prompt, control=True)]
        messages = list(request.messages)
        _require_calls(messages)
        last = messages.pop() if request.continue_last else None
        style = PromptStyle(
            think=request.thinking != "off",
            tools=request.tools if request.tool_choice.mode != "none" else (),
            empty_thought=self.renderer.empty_thought and not (last and last.thought),
        )
        # A template that g4 does not know runs in a child process: other requests go on meanwhile.
        parts = await asyncio.to_thread(self.renderer, messages, style)
        if last is not None:
            parts += render_thought(last.thought)
            if last.content:
                parts.append(Part(last.content))
        return parts

    async def make_run(self, request: TurnRequest) -> RunTurn:
        """Return what the engine is asked. Raises what make_prompt raises, and ContextFull."""
        if not self.engine.has_media and any(m.media for m in request.messages):
            raise BadField("messages", f"{self.name} has no encoder of images and sound")
        prompt = await self.make_prompt(request)
        if len(prompt) >= self.n_ctx:
            raise too_many_tokens(f"{len(prompt):,}", self.n_ctx)
        options = replace(
            self.options,
            max_tokens=request.max_tokens or self.options.max_tokens,
            on_loop=self.options.on_loop if request.stop_on_loop else "ignore",
            max_thought_tokens=request.max_thought_tokens or MAX_THOUGHT_TOKENS[request.thinking],
            stop=request.stop,
            n_probs=request.n_probs,
            max_calls=0 if request.parallel_tool_calls else 1,
            raw=request.prompt is not None,
        )
        sampling = replace(self.sampling, **request.sampling)
        if sampling.seed != RANDOM_SEED:
            seed = (sampling.seed + request.choice) % RANDOM_SEED
            sampling = replace(sampling, seed=seed)
        self.require_tokens([item.token for item in sampling.logit_bias], "logit_bias")
        if request.json_schema or request.grammar or request.tools:
            grammar, scope = await asyncio.to_thread(_make_grammar, request)
        else:  # a thread costs milliseconds where all cores compute
            grammar, scope = _make_grammar(request)
        return RunTurn(prompt, sampling, options, grammar, scope)


def _make_grammar(request: TurnRequest) -> tuple[str | None, GrammarScope]:
    """Return the grammar of the answer; calls always follow the schemas of their tools.

    Raises BadField if a schema or a grammar cannot be enforced.
    """
    form = None
    if request.json_schema:
        form = AnswerForm("json_schema", request.json_schema)
    elif request.grammar:
        form = AnswerForm("gbnf", request.grammar)
    scope: GrammarScope = "after-thought" if request.thinking != "off" else "all"
    choice = request.tool_choice
    tools = () if choice.mode == "none" else request.tools
    tools = tuple(t for t in tools if choice.name in ("", t["function"]["name"]))
    if tools and choice.mode == "required":
        form = None  # the answer is a call
    try:
        if tools and choice.mode == "auto" and form is None:
            return make_call_grammar(tools), "calls"
        if form is None and not tools:
            return None, scope
        return make_grammar(form, tools, several=request.parallel_tool_calls), scope
    except BadField:
        raise
    except UsageError as err:
        raise BadField(request.form_field, err.message) from None


def _require_calls(messages: Sequence[Message]) -> None:
    """Raise BadField for a tool's result without a call before it: the template leaves it out."""
    for before, message in pairwise((Message("user", ""), *messages)):
        if message.role == "tool" and before.role != "tool" and not before.tool_calls:
            what = "the result of a tool does not follow the message that calls it"
            raise BadField("messages", what)


def require_readable(n_characters: int) -> None:
    """Raise ContextFull for a text that is too long for any context."""
    if n_characters > TEXT_LIMIT:
        raise ContextFull(f"the prompt has {n_characters:,} characters: too many for any context")


class Turn:
    """One answer under way: iterate over it for its events, then close it, in any case."""

    def __init__(
        self,
        model: LoadedModel,
        run: RunTurn,
        on_reply: Callable[[LoadedModel, Reply], None],
        form_field: str = "",
    ) -> None:
        """`form_field`: the field of the request that the grammar of `run` comes from."""
        self.model, self._on_reply, self._form_field = model, on_reply, form_field
        self.n_prompt = len(run.prompt)
        self._events = model.engine.run_turn(run)
        self._first: TurnEvent | None = None

    async def start(self) -> None:
        """Wait for the first event: what is wrong with a request shows before it is answered."""
        try:
            self._first = await anext(self._events)
        except StopAsyncIteration:
            raise RuntimeFailed("the model's process gave no answer") from None
        except BadField:
            raise
        except UsageError as err:  # a grammar that only its compiler refuses
            if self._form_field:
                raise BadField(self._form_field, err.message) from None
            raise

    async def __aiter__(self) -> AsyncGenerator[TurnEvent, None]:
        """Yield PromptRead, what the answer consists of, and Finished."""
        if self._first is not None:
            yield self._first
        async for event in self._events:
            if isinstance(event, Finished):
                self._on_reply(self.model, event.reply)
            yield event

    async def close(self) -> None:
        """End the request, if it is not done."""
        await self._events.aclose()


def _name_medium(err: BadMedia, request: TurnRequest) -> BadField:
    """Return what is wrong with an image or sound, without the path of g4's own file."""
    text = err.message
    media = [medium for message in request.messages for medium in message.media]
    for index, medium in enumerate(media):
        name = "image" if medium.kind == "image" else "sound"
        text = text.replace(str(medium.path), f"{name} {index + 1}")
    return BadField("messages", text)
