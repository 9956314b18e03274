"""A model, its context and a sampler as one thing that chat can drive; see `g4cli.chat.Engine`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli.chat import Evaluated
from g4cli.core.errors import ContextFull, UsageError
from g4cli.core.progress import Progress, no_progress
from g4cli.prompt import Part
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.drafting import DraftStats, Exactness
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, ModelOptions, Sampling
from g4cli.runtime.engine.sampler import Sampler
from g4cli.runtime.engine.speculation import Speculation
from g4cli.runtime.llama.interrupt import Interrupt

if TYPE_CHECKING:
    from g4cli.runtime.engine.grammar import GrammarSampler
    from g4cli.runtime.engine.media import MediaEncoder
    from g4cli.runtime.engine.options import MediaOptions
    from g4cli.runtime.engine.speculation import Drafter

# Checkpoints of the sliding window kept in memory, newest last: E2B 12 MiB each, 31B up to 1.2 GiB.
_CHECKPOINT_BYTES: Final = 256 * 1024**2
# Between the first two letters of a token that files mark as visible text, not as control.
_MARK: Final = re.compile(r'(?<=<)(?=(?:\|?(?:channel|tool_call|tool_response)\|?|\|"\|)>)')


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    tokens: tuple[int, ...]
    state: bytes


class LlamaEngine:
    """llama.cpp behind `g4cli.chat.Engine`: evaluates prompts, reuses what is still in memory, samples."""

    def __init__(self, model: Model, options: ContextOptions, interrupt: Interrupt) -> None:
        self.model = model
        self.media: MediaEncoder | None = None
        self._options = options
        found = ((value, model.tokenize(str(value), control=False)) for value in range(10))
        self._digits = {tokens[0]: value for value, tokens in found if len(tokens) == 1}
        self.interrupt = interrupt
        self.context = Context(model, options, interrupt)
        self._evaluated: list[int] = []
        self._checkpoints: list[_Checkpoint] = []
        self._sampler: Sampler | GrammarSampler | None = None
        self._drafting: tuple[Callable[[Context], Drafter], Exactness] | None = None
        self._speculation: Speculation | None = None

    @property
    def n_ctx(self) -> int:
        """Return the size of the context in tokens."""
        return self.context.n_ctx

    @property
    def n_past(self) -> int:
        """Return the tokens in memory."""
        return len(self._evaluated)

    @property
    def interrupted(self) -> bool:
        """Return whether the user asked to stop."""
        return self.interrupt.is_set

    def attach_media(self, options: MediaOptions) -> None:
        """Load the encoder of images and sound. Raises RuntimeFailed or UsageError.

        Networks that look at an image both ways need a ubatch that holds it whole: then the context is made
        anew, and the conversation is evaluated again.
        """
        from g4cli.runtime.engine.media import MediaEncoder

        self.media = MediaEncoder(self.model, options, self.interrupt)
        if self.media.n_ubatch > self._options.n_ubatch:
            self._options = replace(self._options, n_ubatch=self.media.n_ubatch)
            self.close_context()
            self.context = Context(self.model, self._options, self.interrupt)
            self._evaluated = []
            if self._drafting:
                self.attach_drafter(*self._drafting)

    def attach_drafter(
        self, make: Callable[[Context], Drafter], exactness: Exactness = "by comparison"
    ) -> None:
        """Use speculative decoding from now on. The context is empty afterwards.

        `make` returns the drafter for a context; the context needs `drafting.N_OUTPUTS` rows of logits.
        """
        self.context.truncate(0)
        self._evaluated = []
        self._drafting = (make, exactness)
        experts = self.model.meta("gemma4.expert_count") not in (None, "0")
        self._speculation = Speculation(
            self.context, make(self.context), exactness, has_experts=experts
        )

    @property
    def drafted(self) -> DraftStats | None:
        """Return drafted and accepted tokens of this answer, or None without speculative decoding."""
        return self._speculation.drafted if self._speculation else None

    def tokens_of(self, parts: Sequence[Part]) -> list[int]:
        """Return the tokens of a rendered prompt, exactly one BOS at its start."""
        tokens: list[int] = []
        for part in parts:
            if part.media is not None:
                tokens += self.require_media().tokens(part.media)
                continue
            if part.tokens or part.control:
                tokens += part.tokens or self.model.tokenize(part.text, control=True)
                continue
            # llama.cpp takes "<|channel>" for a token in any text; cut in two it is the letters it is.
            for piece in _MARK.split(part.text):
                tokens += self.model.tokenize(piece, control=False)
        bos = self.model.bos
        if bos >= 0 and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        return tokens

    def begin(self, sampling: Sampling, grammar: str | None = None) -> None:
        """Start an answer: a new sampler chain. Raises UsageError if the grammar cannot be parsed."""
        if self._speculation:
            self._speculation.begin_answer(len(self._evaluated), greedy=sampling.temp <= 0)
        if self._sampler:
            self._sampler.close()
            self._sampler = None
        if grammar is None:
            self._sampler = Sampler(self.model, sampling)
            return
        from g4cli.runtime.engine.grammar import GrammarSampler

        self._sampler = GrammarSampler(self.model, sampling, grammar)

    def evaluate(self, tokens: Sequence[int], progress: Progress = no_progress) -> Evaluated:
        """Bring the context to exactly `tokens`, evaluating only what is not in memory already.

        The last token is always evaluated, so that its scores are there. Raises ContextFull.
        """
        if len(tokens) >= self.n_ctx:
            raise ContextFull(
                f"the prompt has {len(tokens):,} tokens, the context holds {self.n_ctx:,}",
                hint=f"--ctx {len(tokens) + 1024} or a shorter prompt",
            )
        if self._speculation:
            self._speculation.drop_rejected(len(self._evaluated))
        reused, restored = self._rewind(tokens)
        position = reused
        while position < len(tokens):
            progress(position - reused, len(tokens) - reused, "prompt")
            count = self._next_piece(tokens, position)
            if self.interrupt.is_set or not self._decode(tokens, position, count):
                # What llama.cpp finished of the piece stays; the rest is as if never asked for.
                position = self._whole_runs(tokens, max(self.context.pos_max + 1, 0))
                self.context.truncate(position)
                self._evaluated = list(tokens[:position])
                return Evaluated(reused=reused, evaluated=max(0, position - reused), complete=False)
            position += count
            self._evaluated = list(tokens[:position])
        self._checkpoint()
        if self._speculation:
            self._speculation.set_prompt(self._evaluated, restored=restored)
        return Evaluated(reused=reused, evaluated=len(tokens) - reused, complete=True)

    def sample(self) -> int:
        """Return the next token."""
        assert self._sampler is not None, "begin() comes first"
        return self._sampler.sample(self.context)

    def advance(self, token: int) -> bool:
        """Evaluate `token`; return False if interrupted. Raises ContextFull."""
        if self._speculation:
            done = self._speculation.advance(token, len(self._evaluated))
        else:
            done = self.context.decode_one(token)
        if done:
            self._evaluated.append(token)
        return done

    def piece(self, token: int) -> bytes:
        """Return the bytes of `token`."""
        return self.model.piece(token)

    def is_end(self, token: int) -> bool:
        """Return whether `token` ends the answer."""
        return self.model.is_end(token)

    @property
    def digits(self) -> Mapping[int, int]:
        """Return the values of the vocabulary's digits, by token."""
        return self._digits

    def _next_piece(self, tokens: Sequence[int], position: int) -> int:
        """Return how many tokens to evaluate at once: a medium whole, or text up to the next medium."""
        if tokens[position] < 0:
            return self.require_media().run_at(tokens[position])[0]
        piece = tokens[position : position + self.context.n_batch]
        return next((index for index, token in enumerate(piece) if token < 0), len(piece))

    def _decode(self, tokens: Sequence[int], position: int, count: int) -> bool:
        if tokens[position] < 0:
            return self.require_media().decode(self.context, tokens[position], position)
        return self.context.decode(tokens[position : position + count])

    def _whole_runs(self, tokens: Sequence[int], position: int) -> int:
        """Return `position`, moved back to the start of the medium that it would cut."""
        if self.media is None or position >= len(tokens):
            return position
        return self.media.start_of(tokens, position)

    def require_media(self) -> MediaEncoder:
        """Return the encoder of images and sound. Raises UsageError if none is attached."""
        if self.media is None:
            raise UsageError(
                f"no encoder for images and sound was found beside {self.model.path.name}",
                hint="--mmproj FILE, or g4 pull MODEL",
            )
        return self.media

    def _rewind(self, tokens: Sequence[int]) -> tuple[int, bool]:
        """Keep the longest usable common prefix in memory; return its length, and whether it was restored."""
        common = 0
        for have, want in zip(self._evaluated, tokens[:-1], strict=False):
            if have != want:
                break
            common += 1
        common = self._whole_runs(tokens, common)
        restored = common < len(self._evaluated) and not self.context.can_branch(common)
        if restored:
            common = self._restore(tokens)
        self.context.truncate(common)
        del self._evaluated[common:]
        return common, restored

    def _restore(self, tokens: Sequence[int]) -> int:
        """Bring back the newest checkpoint that begins `tokens`; return its length, or 0."""
        for checkpoint in reversed(self._checkpoints):
            n = len(checkpoint.tokens)
            if n >= len(tokens) or tuple(tokens[:n]) != checkpoint.tokens:
                continue
            # The full-attention layers still hold these positions: they forget only from the end.
            if tuple(self._evaluated[:n]) != checkpoint.tokens:
                continue
            self.context.truncate(n)
            if self.context.restore_window(checkpoint.state) and self.context.can_branch(n):
                return n
        return 0

    def _checkpoint(self) -> None:
        """Remember the sliding window at the end of a prompt: a retry or an edit branches off there."""
        if not self.model.n_swa or len(self._evaluated) < self.model.n_swa:
            return  # the window still holds everything
        state = self.context.save_window(_CHECKPOINT_BYTES)
        if state is None:
            return
        tokens = tuple(self._evaluated)
        kept = [
            c
            for c in self._checkpoints
            if tokens[: len(c.tokens)] == c.tokens and c.tokens != tokens
        ]
        kept.append(_Checkpoint(tokens, state))
        while sum(len(c.state) for c in kept) > _CHECKPOINT_BYTES:
            del kept[0]
        self._checkpoints = kept

    def close_context(self) -> None:
        """Free sampler and context; the model can make another."""
        if self._sampler:
            self._sampler.close()
        if self._speculation:
            self._speculation.close()
            self._speculation = None
        self.context.close()
        self._sampler = None
        self._checkpoints.clear()

    def close(self) -> None:
        """Free everything."""
        self.close_context()
        if self.media:
            self.media.close()
        self.model.close()


@contextmanager
def open_engine(
    path: Path,
    *,
    model_options: ModelOptions,
    context_options: Callable[[Model], ContextOptions],
    progress: Progress = no_progress,
) -> Iterator[LlamaEngine]:
    """Yield an engine for the file at `path`; `context_options` may look at the loaded model."""
    interrupt = Interrupt()
    with ExitStack() as stack:
        model = Model(path, model_options, progress=progress, stop=lambda: interrupt.is_set)
        stack.callback(model.close)
        engine = LlamaEngine(model, context_options(model), interrupt)
        stack.callback(engine.close)
        yield engine
