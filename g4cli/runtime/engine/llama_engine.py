"""A model, its context and a sampler behind the interface that a turn uses (`g4cli.chat.Engine`).

Prompts of a conversation share long prefixes. `evaluate` compares the new prompt with what the
context holds, keeps the common prefix and evaluates the rest. Where the sliding window no longer
holds the end of that prefix (see `context`), the newest checkpoint that is a prefix of the prompt
is restored; one is made at the end of each prompt, where retries and edits branch off.
"""

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
from g4cli.prompt.reply import SampledToken
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

# For all checkpoints of the window together, newest last: one is 12 MiB for E2B, up to 1.2 GiB for
# 31B.
_CHECKPOINT_BYTES: Final = 256 * 1024**2
# The place after "<" in control tokens that the vocabulary marks as ordinary text.
_AFTER_ANGLE: Final = re.compile(r'(?<=<)(?=(?:\|?(?:channel|tool_call|tool_response)\|?|\|"\|)>)')


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    tokens: tuple[int, ...]
    state: bytes


class LlamaEngine:
    """llama.cpp as `g4cli.chat.Engine`: evaluates prompts with prefix reuse, samples, decodes."""

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
        """Return the number of tokens in the context."""
        return len(self._evaluated)

    @property
    def interrupted(self) -> bool:
        """Return whether a stop was requested."""
        return self.interrupt.is_set

    def attach_media(self, options: MediaOptions) -> None:
        """Load the encoder of images and sound. Raises RuntimeFailed or UsageError.

        Models with bidirectional attention within images need a ubatch that holds an image whole.
        If it has to grow, the context is made anew and is empty afterwards.
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

        `make` returns the drafter for a context; the context needs `drafting.N_OUTPUTS` rows of
        logits.
        """
        self.context.truncate(0)
        self._evaluated = []
        self._drafting = (make, exactness)
        experts = self.model.read_key("gemma4.expert_count") not in (None, "0")
        self._speculation = Speculation(
            self.context, make(self.context), exactness, has_experts=experts
        )

    @property
    def drafted(self) -> DraftStats | None:
        """Return drafted and accepted tokens of this answer, or None without speculative decoding."""
        return self._speculation.drafted if self._speculation else None

    def tokens_of(self, parts: Sequence[Part], *, with_bos: bool = True) -> list[int]:
        """Return the tokens of a rendered prompt, exactly one BOS at its start if it is wanted."""
        tokens: list[int] = []
        for part in parts:
            if part.media is not None:
                tokens += self.require_media().tokens(part.media)
                continue
            if part.tokens or part.control:
                tokens += part.tokens or self.model.tokenize(part.text, control=True)
                continue
            # llama.cpp makes "<|channel>" a control token even in user text; split, it is letters.
            for piece in _AFTER_ANGLE.split(part.text):
                tokens += self.model.tokenize(piece, control=False)
        bos = self.model.bos
        if with_bos and bos >= 0 and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        return tokens

    def begin(self, sampling: Sampling, grammar: str | None = None) -> None:
        """Start an answer with a new sampler chain. Raises UsageError if the grammar cannot be parsed."""
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
        """Make the context hold exactly `tokens`; only what follows the reused prefix is evaluated.

        The last token is always evaluated, since its logits are needed. Raises ContextFull.
        """
        if len(tokens) >= self.n_ctx:
            raise ContextFull(
                f"the prompt has {len(tokens):,} tokens, the context holds {self.n_ctx:,}",
                hint=f"--ctx {len(tokens) + 1024} or a shorter prompt",
            )
        if self._speculation:
            self._speculation.drop_rejected(len(self._evaluated))
        reused, restored = self._reuse_prefix(tokens)
        position = reused
        while position < len(tokens):
            progress(position - reused, len(tokens) - reused, "prompt")
            count = self._count_next_batch(tokens, position)
            if self.interrupt.is_set or not self._decode(tokens, position, count):
                # What llama.cpp has finished stays in the context.
                position = self._round_down_to_run(tokens, max(self.context.pos_max + 1, 0))
                self.context.truncate(position)
                self._evaluated = list(tokens[:position])
                return Evaluated(reused=reused, evaluated=max(0, position - reused), complete=False)
            position += count
            self._evaluated = list(tokens[:position])
        self._add_checkpoint()
        if self._speculation:
            self._speculation.set_prompt(self._evaluated, restored=restored)
        return Evaluated(reused=reused, evaluated=len(tokens) - reused, complete=True)

    def sample(self) -> int:
        """Return the next token."""
        assert self._sampler is not None, "call begin() first"
        return self._sampler.sample(self.context)

    def read_probabilities(self, token: int, n_top: int) -> SampledToken:
        """Return the probability of `token`, which was sampled just now, and the `n_top` highest."""
        from g4cli.runtime.engine.probabilities import read_probabilities  # loads numpy: 70 ms

        return read_probabilities(self.context, self.model, token, n_top)

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

    def _count_next_batch(self, tokens: Sequence[int], position: int) -> int:
        """Return how many tokens to evaluate at once: a whole run, or text up to the next run or batch."""
        if tokens[position] < 0:
            return self.require_media().find_run(tokens[position])[0]
        piece = tokens[position : position + self.context.n_batch]
        return next((index for index, token in enumerate(piece) if token < 0), len(piece))

    def _decode(self, tokens: Sequence[int], position: int, count: int) -> bool:
        if tokens[position] < 0:
            return self.require_media().decode(self.context, tokens[position], position)
        return self.context.decode(tokens[position : position + count])

    def _round_down_to_run(self, tokens: Sequence[int], position: int) -> int:
        """Return `position`, or the start of the run (of an image or sound) that it is inside of."""
        if self.media is None or position >= len(tokens):
            return position
        return self.media.find_run_start(tokens, position)

    def require_media(self) -> MediaEncoder:
        """Return the encoder of images and sound. Raises UsageError if none is attached."""
        if self.media is None:
            raise UsageError(
                f"no encoder of images and sound is loaded for {self.model.path.name}",
                hint="--mmproj FILE, or g4 pull MODEL",
            )
        return self.media

    def _reuse_prefix(self, tokens: Sequence[int]) -> tuple[int, bool]:
        """Truncate the context to the longest usable common prefix.

        Return its length, and whether a checkpoint was restored.
        """
        common = 0
        for have, want in zip(self._evaluated, tokens[:-1], strict=False):
            if have != want:
                break
            common += 1
        common = self._round_down_to_run(tokens, common)
        restored = common < len(self._evaluated) and not self.context.can_branch(common)
        if restored:
            common = self._restore_checkpoint(tokens)
        self.context.truncate(common)
        del self._evaluated[common:]
        return common, restored

    def _restore_checkpoint(self, tokens: Sequence[int]) -> int:
        """Restore the newest checkpoint that is a prefix of `tokens`; return its length, or 0."""
        for checkpoint in reversed(self._checkpoints):
            n = len(checkpoint.tokens)
            if n >= len(tokens) or tuple(tokens[:n]) != checkpoint.tokens:
                continue
            # The full-attention layers must still hold these positions.
            if tuple(self._evaluated[:n]) != checkpoint.tokens:
                continue
            self.context.truncate(n)
            if self.context.restore_window(checkpoint.state) and self.context.can_branch(n):
                return n
        return 0

    def _add_checkpoint(self) -> None:
        """Make a checkpoint of the window at the end of a prompt."""
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
        """Free sampler, drafter and context; the model stays loaded."""
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
