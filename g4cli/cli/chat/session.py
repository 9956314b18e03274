"""One chat with one loaded model: the conversation, its settings, and a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from g4cli.chat import Conversation, Finished, Reply, TurnEvent, TurnOptions, fit_prompt
from g4cli.core.errors import G4Error, Interrupted, UsageError
from g4cli.core.files import require_file
from g4cli.core.gbnf import check_grammar
from g4cli.core.json_schema import parse_schema
from g4cli.core.media_file import read_media
from g4cli.core.template_child import render_template
from g4cli.core.units import size_text
from g4cli.operations.chat.saved import load_chat
from g4cli.prompt import Message, PromptStyle, choose_renderer
from g4cli.prompt.messages import Media
from g4cli.prompt.tools import parse_tools
from g4cli.runtime.engine.messages import RunTurn
from g4cli.runtime.engine.options import Sampling, recommended

if TYPE_CHECKING:
    from g4cli.cli.chat.run import Checked, Request
    from g4cli.cli.output import Output
    from g4cli.core.gguf_header import Header
    from g4cli.runtime.engine.client import EngineClient
    from g4cli.runtime.engine.messages import Encoded

THOUGHT_TOKENS: Final = {"off": 0, "on": 0, "low": 256, "medium": 1024, "high": 0}
_CLOSE_THOUGHT: Final = "\n<channel|>"
_TEXT_BYTES: Final = 64 << 20


class View(Protocol):
    """Who shows the events of a turn, and before them how far the prompt is read."""

    def waiting(self) -> None: ...
    def encoding(self, name: str) -> None: ...
    def show(self, event: TurnEvent) -> None: ...
    def reading(self, done: int, total: int, label: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """What /think and its like change between turns."""

    think: str
    thoughts: str
    stats: bool


class Session:
    """Holds engine, conversation and settings; `turn` runs one exchange."""

    def __init__(
        self,
        out: Output,
        request: Request,
        engine: EngineClient,
        checked: Checked,
        conversation: Conversation,
        tools: tuple[Mapping[str, Any], ...],
        load_s: float,
    ) -> None:
        self.out, self.request, self.engine, self._checked = out, request, engine, checked
        self.conversation, self.load_s = conversation, load_s
        self.settings = Settings(request.think, request.thoughts, request.stats)
        self.sampling: Sampling = replace(recommended(checked.header), **request.sampling)
        self._tools = tools
        self._grammar = grammar_of(out, request, engine)
        self._render = choose_renderer(
            template_of(checked.header), partial(render_template, path=checked.path)
        )
        if self._render.notice:
            out.warn(self._render.notice)

    @property
    def has_grammar(self) -> bool:
        """Return whether answers must obey a grammar or a JSON schema."""
        return self._grammar is not None

    @property
    def style(self) -> PromptStyle:
        """Return what the prompt depends on besides the messages."""
        return PromptStyle(
            think=self.settings.think != "off",
            tools=self._tools,
            empty_thought=self._render.empty_thought,
        )

    def prompt_tokens(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the tokens of the prompt for `messages`."""
        return self.engine.tokens_of(self._render(messages, self.style))

    def media_of(self, request: Request) -> tuple[Media, ...]:
        """Return the pictures and sounds of --image and --audio."""
        return (
            *(Media("image", path.expanduser().absolute()) for path in request.image or ()),
            *(Media("audio", path.expanduser().absolute()) for path in request.audio or ()),
        )

    def ensure_engine(self) -> None:
        """Start the model again if its process has ended. Raises what loading it raises."""
        if not self.engine.has_ended:
            return
        self.out.say("starting the model again ...")
        with self.out.progress(f"load {self._checked.path.name}", unit="steps") as progress:
            self.engine.reopen(progress)

    def need_media(self) -> None:
        """Load the encoder of images and sound, once. Raises UsageError if there is none for this model."""
        self.ensure_engine()
        if self.engine.has_media:
            return
        from g4cli.operations.fit.options import find_encoder
        from g4cli.runtime.engine.options import MediaOptions

        path = self._checked.path
        mmproj = self.request.mmproj or find_encoder(path)
        if mmproj is None:
            raise UsageError(
                f"no encoder for images and sound lies beside {path.name}", hint="--mmproj FILE"
            )
        self.engine.attach_media(
            MediaOptions(
                require_file(mmproj),
                image_tokens=self.request.image_tokens,
                n_threads=self.request.threads,
            )
        )

    def encode(self, media: Sequence[Media], view: View) -> list[Encoded] | None:
        """Encode pictures and sounds that are new; return what became of all, or None if Ctrl-C stopped it.

        Raises what is wrong with a file.
        """
        found = []
        with self.engine.ctrl_c.listening():
            for medium in media:
                require_file(medium.path.expanduser())
                view.encoding(medium.path.name)
                try:
                    found.append(self.engine.encode(medium))
                except Interrupted:
                    return None
        return found

    def turn(self, view: View) -> Reply:
        """Answer the last question, showing events as they come, and keep the answer.

        Raises ContextFull, BadMedia, or RuntimeFailed if llama.cpp fails. If its process has ended, then the
        question is kept with an empty answer, and can be asked again.
        """
        try:
            with self.engine.ctrl_c.listening():
                reply = self._answer(view)
        except Interrupted:
            reply = Reply.interrupted()
        except G4Error:
            if self.engine.has_ended:
                self.conversation.answer(Reply.interrupted().message())
            raise
        self.conversation.answer(reply.message())
        return reply

    def _answer(self, view: View) -> Reply:
        self.ensure_engine()
        media = [medium for turn in self.conversation.messages() for medium in turn.media]
        if media:
            self.need_media()
            encoded = self.encode(media, view)
            if encoded is None:
                return Reply.interrupted()
            self._say_pieces(media, encoded)
        fitted = fit_prompt(
            self.conversation,
            self.prompt_tokens,
            n_ctx=self.engine.n_ctx,
            policy=self.request.on_overflow,
            n_ctx_most=self.engine.loaded.n_ctx_train,
        )
        if fitted.dropped_turns:
            self.out.warn(
                f"the context is full: the oldest {fitted.dropped_turns} turns were dropped"
            )
        options = TurnOptions(
            max_tokens=self.request.max_tokens,
            stop_on_loop=not self.request.no_loop_stop,
            thought_tokens=THOUGHT_TOKENS[self.settings.think],
        )
        view.waiting()
        request = RunTurn(fitted.tokens, self.sampling, options, self._grammar, _CLOSE_THOUGHT)
        reply = Reply.interrupted()
        for event in self.engine.run_turn(request, view.reading):
            view.show(event)
            if isinstance(event, Finished):
                reply = event.reply
        return reply

    def _say_pieces(self, media: Sequence[Media], encoded: Sequence[Encoded]) -> None:
        """Tell that a long sound of the last question is heard in pieces."""
        from g4cli.runtime.engine.options import AUDIO_CHUNK_S

        first = len(media) - len(self.conversation.turns[-1].media)
        for medium, found in zip(media[first:], encoded[first:], strict=True):
            if found.n_pieces > 1:
                self.out.say(
                    f"{medium.path.name} is longer than {AUDIO_CHUNK_S} s: "
                    f"it is heard in {found.n_pieces} pieces"
                )


def conversation_of(request: Request) -> Conversation:
    """Return the conversation to go on with: a saved one, or an empty one with the system text."""
    if request.conversation is not None:
        return request.conversation
    conversation = load_chat(request.resume) if request.resume else Conversation()
    if request.system:
        conversation.system = request.system
    return conversation


def require_files(request: Request) -> None:
    """Raise FileMissing, UsageError or BadMedia before a model is loaded for nothing."""
    if request.mmproj:
        require_file(request.mmproj.expanduser())
    for path in request.image or ():
        read_media(path, "image")
    for path in request.audio or ():
        read_media(path, "audio")
    if request.json_schema and request.grammar:
        raise UsageError("--json-schema and --grammar exclude each other")
    if (request.json_schema or request.grammar) and request.think != "off":
        raise UsageError("a grammar leaves no room for thoughts", hint="--think off")
    if request.grammar:
        check_grammar(_text_of(request.grammar))
    if request.json_schema:
        parse_schema(_text_of(request.json_schema))


def template_of(header: Header) -> str | None:
    """Return the chat template in a file's header, or None if it has none."""
    text: str = header.get("tokenizer.chat_template", str, "")
    return text or None


def grammar_of(out: Output, request: Request, engine: EngineClient) -> str | None:
    """Return the grammar that answers must obey, or None. Raises UsageError."""
    if request.grammar:
        return _text_of(request.grammar)
    if request.json_schema:
        grammar = engine.compile_schema(_text_of(request.json_schema))
        if ignored := grammar.not_enforced:
            out.warn(f"answers are not held to {', '.join(ignored)} of the schema")
        return grammar.text
    return None


def tools_of(request: Request) -> tuple[Mapping[str, Any], ...]:
    """Return the tools of --tools. Raises FileMissing or UsageError (no list of tools)."""
    return parse_tools(_text_of(request.tools)) if request.tools else ()


def _text_of(path: Path) -> str:
    path = require_file(path.expanduser())
    if path.stat().st_size > _TEXT_BYTES:
        raise UsageError(f"{path} is too large ({size_text(path.stat().st_size)})")
    return path.read_text(encoding="utf-8", errors="replace")
