"""A conversation with a loaded model: encode images and audio, and answer turn by turn."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from g4cli.chat import (
    Conversation,
    Finished,
    LoopNoticed,
    OnLoop,
    Reply,
    TurnOptions,
    View,
    fit_prompt,
)
from g4cli.core.errors import G4Error, Interrupted, UsageError
from g4cli.core.files import require_file
from g4cli.core.paths import expand_home
from g4cli.core.quoting import shell_word
from g4cli.core.template_child import TEMPLATE_KEY, render_template
from g4cli.operations.chat.inputs import ChatInputs
from g4cli.operations.chat.request import SAMPLING_NAMES, ChatRequest
from g4cli.operations.fit.options import find_encoder
from g4cli.prompt.messages import Media, Message
from g4cli.prompt.render import PromptStyle
from g4cli.prompt.reply import AnswerText, SampledToken
from g4cli.prompt.template import Renderer, choose_renderer
from g4cli.runtime.engine.messages import RunTurn
from g4cli.runtime.engine.options import (
    AUDIO_CHUNK_S,
    RANDOM_SEED,
    MediaOptions,
    Sampling,
    choose_sampling,
    find_recommended_sampling,
)

if TYPE_CHECKING:
    from g4cli.core.reporter import Reporter
    from g4cli.operations.models import LoadableModel
    from g4cli.runtime.engine.client import EngineClient
    from g4cli.runtime.engine.messages import Encoded

# By level of thinking: the tokens after which a thought is ended, a choice; 0: no limit.
MAX_THOUGHT_TOKENS: Final = {"off": 0, "on": 0, "low": 256, "medium": 1024, "high": 0}


class ChatSession:
    """Holds the engine and the conversation; `run_turn` answers the last question.

    `think` is the level of thinking of the next answers, a key of MAX_THOUGHT_TOKENS. `load_s` is
    how many seconds it took to load the model, `resident_bytes` the estimate of its peak of
    resident memory, `header` that of its file. The constructor checks the grammar of the request
    and chooses the chat template; it raises UsageError or BadFile.
    """

    def __init__(
        self,
        request: ChatRequest,
        model: LoadableModel,
        engine: EngineClient,
        inputs: ChatInputs,
        load_s: float,
        reporter: Reporter,
        resident_bytes: int,
    ) -> None:
        self.request, self.engine = request, engine
        self.conversation = request.conversation or Conversation(request.system)
        self.load_s, self.resident_bytes = load_s, resident_bytes
        self.header = model.header
        self.think = request.think
        self.sampling: Sampling = choose_sampling(model.header, **request.sampling)
        self._drawn = self.sampling  # with the seed that was drawn for the last answer
        # The tokens of the last answer, if the request asks for their probabilities.
        self.sampled: list[SampledToken] = []
        # The names of the sampling parameters that the model file recommends.
        self.recommended = frozenset(find_recommended_sampling(model.header))
        self._reporter, self._model, self._inputs = reporter, model, inputs
        if inputs.grammar is not None:
            engine.check_grammar(inputs.grammar)
        self._render = choose_file_renderer(model, reporter)

    @property
    def has_grammar(self) -> bool:
        """Whether whole answers are constrained by a grammar or a JSON schema."""
        return self._inputs.has_form

    def describe_settings(self) -> dict[str, Any]:
        """Return what the last answer depended on beside its prompt; its seed even if not given."""
        return {
            **{name: getattr(self._drawn, name) for name in SAMPLING_NAMES},
            "think": self.think,
            "ctx": self.engine.n_ctx,
        }

    def _tokenize_prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        style = make_style(self.think, self._inputs, self._render)
        return self.engine.tokens_of(self._render(messages, style))

    def _ensure_engine(self) -> None:
        """Load the model again if its worker has ended. Raises what EngineClient.reopen raises."""
        if not self.engine.has_ended:
            return
        self._reporter.say("loading the model again ...")
        with self._reporter.progress(f"load {self._model.path.name}", unit="steps") as progress:
            self.engine.reopen(progress)

    def require_encoder(self) -> None:
        """Load the encoder of images and audio, once. Raises UsageError if there is none."""
        self._ensure_engine()
        if self.engine.has_media:
            return
        self.engine.attach_media(find_media_options(self.request, self._model.path))

    def encode_media(self, media: Sequence[Media], view: View) -> list[Encoded] | None:
        """Return the encoded `media`, in order, or None if Ctrl-C stopped it.

        The engine remembers what it has encoded. Raises FileMissing, BadMedia or what
        EngineClient.encode raises.
        """
        encoded = []
        with self.engine.ctrl_c.listening():
            for medium in media:
                require_file(expand_home(medium.path))
                view.show_encoding(medium.path.name)
                try:
                    encoded.append(self.engine.encode(medium))
                except Interrupted:
                    return None
        return encoded

    def run_turn(self, view: View) -> Reply:
        """Return the answer to the last question and add it to the conversation; `view` shows it.

        After Ctrl-C it is what was generated so far. Raises ContextFull, BadMedia, or RuntimeFailed
        if llama.cpp fails. If the worker has ended, the question is kept with an empty answer and
        can be asked again.
        """
        try:
            with self.engine.ctrl_c.listening():
                reply = self._answer_question(view)
        except Interrupted:
            reply = Reply.interrupted()
        except G4Error:
            if self.engine.has_ended:
                self.conversation.answer(Reply.interrupted().message())
            raise
        self.conversation.answer(reply.message())
        return reply

    def _answer_question(self, view: View) -> Reply:
        """Return the answer, which is not yet a turn of the conversation."""
        self._ensure_engine()
        media = [medium for turn in self.conversation.messages() for medium in turn.media]
        if media:
            self.require_encoder()
            encoded = self.encode_media(media, view)
            if encoded is None:
                return Reply.interrupted()
            self._report_pieces(media, encoded)
        fitted = fit_prompt(
            self.conversation,
            self._tokenize_prompt,
            n_ctx=self.engine.n_ctx,
            policy=self.request.on_overflow,
            n_ctx_train=self.engine.loaded.n_ctx_train,
        )
        if fitted.dropped_turns:
            self._reporter.warn(
                f"the context is full: the prompt omits the oldest {fitted.dropped_turns} turns"
            )
        view.show_waiting()
        self._drawn = draw_seed(self.sampling)
        request = make_turn(self.request, self._inputs, self.think, self._drawn, fitted.tokens)
        reply = Reply.interrupted()
        self.sampled.clear()
        for event in self.engine.run_turn(request, view.show_reading):
            view.show(event)
            collect_sampled(event, self.sampled)
            if isinstance(event, Finished):
                reply = event.reply
        return reply

    def _report_pieces(self, media: Sequence[Media], encoded: Sequence[Encoded]) -> None:
        """Report which audio files of the last question are too long to be encoded in one piece."""
        first = len(media) - len(self.conversation.turns[-1].media)
        for medium, result in zip(media[first:], encoded[first:], strict=True):
            if result.n_pieces > 1:
                self._reporter.say(
                    f"{medium.path.name} is longer than {AUDIO_CHUNK_S} s: "
                    f"it is encoded in {result.n_pieces} pieces"
                )


def choose_file_renderer(model: LoadableModel, reporter: Reporter) -> Renderer:
    """Return what renders the prompts for a model, and report what is unusual about its template.

    Blocks: a template that g4 does not know runs in a child process. Raises BadFile.
    """
    template: str = model.header.get(TEMPLATE_KEY, str, "")
    renderer = choose_renderer(template or None, partial(render_template, path=model.path))
    if renderer.notice:
        reporter.warn(renderer.notice)
    return renderer


def find_media_options(request: ChatRequest, path: Path) -> MediaOptions:
    """Return how to load the encoder of images and audio for the model at `path`.

    Raises UsageError if there is none, FileMissing.
    """
    mmproj = request.mmproj or find_encoder(path)
    if mmproj is None:
        raise UsageError(
            f"no encoder for images and audio was found in the folder of {path.name}",
            hint=f"g4 chat {shell_word(request.model)} --mmproj FILE",
        )
    return MediaOptions(
        require_file(mmproj),
        image_tokens=request.image_tokens,
        n_threads=request.threads,
        use_gpu=not request.workers,  # llama.cpp would put the encoder on the first worker
    )


def make_style(think: str, inputs: ChatInputs, renderer: Renderer) -> PromptStyle:
    """Return how prompts are written; `think` is a key of MAX_THOUGHT_TOKENS."""
    return PromptStyle(
        think=think != "off", tools=inputs.tools, empty_thought=renderer.empty_thought
    )


def make_turn(
    request: ChatRequest,
    inputs: ChatInputs,
    think: str,
    sampling: Sampling,
    tokens: tuple[int, ...],
) -> RunTurn:
    """Return the turn that answers the prompt `tokens` as `request` says.

    `think` is a key of MAX_THOUGHT_TOKENS.
    """
    on_loop: OnLoop = request.on_loop
    if on_loop == "retry" and inputs.grammar is not None:
        on_loop = "stop"  # where a grammar has to be kept, there may be no other way
    options = TurnOptions(
        max_tokens=request.max_tokens,
        on_loop=on_loop,
        max_thought_tokens=MAX_THOUGHT_TOKENS[think],
        stop=tuple(request.stop),
        n_probs=request.n_probs,
    )
    scope = inputs.grammar_scope
    if scope == "all" and think != "off":
        scope = "after-thought"
    return RunTurn(tokens, sampling, options, inputs.grammar, scope)


def draw_seed(sampling: Sampling) -> Sampling:
    """Return `sampling` with a seed, drawn if none was given: it is known afterwards."""
    if sampling.seed != RANDOM_SEED:
        return sampling
    return replace(sampling, seed=secrets.randbelow(RANDOM_SEED))


def collect_sampled(event: Any, sampled: list[SampledToken]) -> None:
    """Add the tokens of an event of a turn to `sampled`; a retry takes back those it discards."""
    if isinstance(event, AnswerText):
        sampled += event.tokens
    elif isinstance(event, LoopNoticed) and event.retried:
        n_bytes, n_kept = len(event.text.encode()), 0
        while n_kept < len(sampled) and (n_bytes := n_bytes - len(sampled[n_kept].piece)) >= 0:
            n_kept += 1
        del sampled[n_kept:]
