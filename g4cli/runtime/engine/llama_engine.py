"""A model, its context and a sampler behind the interface that a turn uses (`g4cli.chat.Engine`).

It holds one conversation, and may draft tokens: a round of drafts is a batch of its own, whose rows
are compared and rolled back. Many conversations at once are run by `scheduler`. What both have in
common is `BaseEngine`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Tokens
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli.chat import DraftStats, Evaluated
from g4cli.core.progress import Progress, no_progress
from g4cli.prompt.reply import SampledToken
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.drafting import Exactness
from g4cli.runtime.engine.grammar import GrammarSampler, make_mask_process
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, GrammarScope, ModelOptions, Sampling
from g4cli.runtime.engine.prompt_tokens import PromptTokens
from g4cli.runtime.engine.sampler import Sampler
from g4cli.runtime.engine.sequence import Sequence
from g4cli.runtime.engine.speculation import Speculation
from g4cli.runtime.llama.interrupt import Interrupt

if TYPE_CHECKING:
    from g4cli.runtime.engine.options import MediaOptions
    from g4cli.runtime.engine.speculation import Drafter
    from g4cli.runtime.engine.state_cache import StateCache

RETRY_TEMP: Final = 1.0
"""The lowest temperature at which an answer is continued that was cut back because of a loop: the
one that Google recommends for Gemma 4.
"""
CHECKPOINT_BYTES: Final = 256 * 1024**2
"""A choice, for all checkpoints of the window: one is 12 MiB for E2B, up to 1.2 GiB for 31B.

None is made of a window that is larger than this: then a retry reads the prompt again.
"""


class BaseEngine(ABC):
    """A model with its context, encoder and grammars, whatever runs turns with them."""

    def __init__(self, model: Model, options: ContextOptions, interrupt: Interrupt) -> None:
        """Make a context. `model` is closed with the engine. Raises what `Context` raises."""
        self.model, self.interrupt = model, interrupt
        self.prompts, self.masks = PromptTokens(model), make_mask_process(model)
        self._options = options
        self._states: StateCache | None = None
        self._make_context()

    def _make_context(self) -> None:
        """Make the context; a subclass makes all that depends on it, too."""
        self.context = Context(self.model, self._options, self.interrupt)

    @abstractmethod
    def use_states(self, cache: StateCache) -> None:
        """Save and restore states of prompts from now on."""

    def attach_media(self, options: MediaOptions) -> None:
        """Load the encoder of images and sound, between two turns.

        Models with bidirectional attention within images need a ubatch that holds an image whole.
        If it has to grow, the context is made anew and is empty afterwards. Raises RuntimeFailed or
        UsageError.
        """
        from g4cli.runtime.engine.media import MediaEncoder

        media = MediaEncoder(self.model, options, self.interrupt, self._states)
        self.prompts.media = media
        if media.n_ubatch > self._options.n_ubatch:
            self._options = replace(self._options, n_ubatch=media.n_ubatch)
            self.close_context()
            self._make_context()
            if self._states is not None:
                self.use_states(self._states)

    def close_context(self) -> None:
        """Free the context and what depends on it; the model stays loaded."""
        self.context.close()

    def close(self) -> None:
        """Free everything."""
        self.close_context()
        self.masks.close()
        if self.prompts.media:
            self.prompts.media.close()
        self.model.close()


class LlamaEngine(BaseEngine):
    """llama.cpp as `g4cli.chat.Engine`: evaluates prompts with prefix reuse, samples, decodes."""

    def __init__(self, model: Model, options: ContextOptions, interrupt: Interrupt) -> None:
        self._sampler: Sampler | GrammarSampler | None = None
        self._sampled: int | None = None  # what the sampler chose, until it is evaluated
        self._sampling = Sampling()
        self._drafting: tuple[Callable[[Context], Drafter], Exactness] | None = None
        self._speculation: Speculation | None = None
        super().__init__(model, options, interrupt)

    def _make_context(self) -> None:
        super()._make_context()
        self._sequence = Sequence(self.context, self.prompts, checkpoint_bytes=CHECKPOINT_BYTES)
        if self._drafting is not None:
            self.attach_drafter(*self._drafting)

    @property
    def n_ctx(self) -> int:
        """Return the size of the context in tokens."""
        return self.context.n_ctx

    @property
    def n_past(self) -> int:
        """Return the number of tokens in the context."""
        return len(self._sequence.tokens)

    @property
    def interrupted(self) -> bool:
        """Return whether a stop was requested."""
        return self.interrupt.is_set

    def attach_drafter(
        self, make: Callable[[Context], Drafter], exactness: Exactness = "by comparison"
    ) -> None:
        """Use speculative decoding from now on. The context is empty afterwards.

        `make` returns the drafter for a context; the context needs `drafting.N_OUTPUTS` rows of
        logits.
        """
        self._sequence.truncate(0)
        self._drafting = (make, exactness)
        self._speculation = Speculation(
            self.context, make(self.context), exactness, has_experts=self.model.has_experts
        )

    @property
    def drafted(self) -> DraftStats | None:
        """Return drafted and accepted tokens of this answer, or None where nothing drafts."""
        return self._speculation.drafted if self._speculation else None

    def begin(
        self,
        sampling: Sampling,
        grammar: str | None = None,
        scope: GrammarScope = "all",
        *,
        keep_logits: bool = False,
    ) -> None:
        """Start an answer with a new sampler chain.

        What follows `sampling` is explained by `grammar.GrammarSampler`, and matters only with a
        grammar.
        """
        self._sampling, self._sampled = sampling, None
        if self._speculation:
            self._speculation.begin_answer(self.n_past, greedy=sampling.temp <= 0)
        if self._sampler:
            self._sampler.close()
            self._sampler = None
        if grammar is None:
            self._sampler = Sampler(self.model, sampling)
            return
        self._sampler = GrammarSampler(
            self.model,
            sampling,
            self.masks,
            grammar,
            scope,
            keep_logits=keep_logits,
            is_stopped=lambda: self.interrupt.is_set,
        )

    def evaluate(self, tokens: Tokens[int], progress: Progress = no_progress) -> Evaluated:
        """Make the context hold exactly `tokens`; only what follows the reused prefix is evaluated.

        The last token is always evaluated, since its logits are needed. Raises ContextFull.
        """
        self.context.require_room(tokens)
        if self._speculation:
            self._speculation.drop_rejected(self.n_past)
        sequence = self._sequence
        prefix = sequence.reuse_prefix(tokens)
        reused = position = prefix.n_tokens
        while position < len(tokens):
            progress(position - reused, len(tokens) - reused, "prompt")
            most = sequence.limit_batch(position, self.context.n_batch)
            count = self.prompts.count_next_batch(tokens, position, most)
            started = time.perf_counter()
            if self.interrupt.is_set or not self._decode(tokens, position, count):
                sequence.truncate_unfinished(tokens)
                evaluated = max(0, self.n_past - reused)
                return Evaluated(reused=reused, evaluated=evaluated, complete=False)
            sequence.tokens += tokens[position : position + count]
            position += count
            sequence.record_reading(count, started)
            sequence.save_border()
        sequence.add_checkpoint()
        if self._speculation:
            self._speculation.set_prompt(sequence.tokens, restored=prefix.restored)
        return Evaluated(reused=reused, evaluated=len(tokens) - reused, complete=True)

    def sample(self) -> int:
        """Return the next token."""
        assert self._sampler is not None, "call begin() first"
        self._sampled = self._sampler.sample_token(self.context)
        return self._sampled

    def read_probabilities(self, token: int, n_top: int) -> SampledToken:
        """Return how probable `token`, just sampled, and the `n_top` best ones were."""
        from g4cli.runtime.engine.probabilities import read_probabilities  # loads numpy: 70 ms

        return read_probabilities(self.context, self.model, token, n_top)

    def read_probability(self, token: int) -> float | None:
        """Return how probable `token`, just sampled, was; None for an answer with a grammar."""
        return self._sampler.read_probability(self.context, token) if self._sampler else None

    def take_certain_tokens(self) -> Tokens[int]:
        """Return the tokens that follow the last one in any case, as the grammar has it.

        They are recorded as part of the answer, and evaluated by `advance`.
        """
        # A round of drafts evaluates one sampled token, and no certain ones with it.
        if self._sampler is None or self._speculation:
            return ()
        return self._sampler.take_certain_tokens()

    def advance(self, token: int, *certain: int) -> bool:
        """Evaluate `token` and those that are certain to follow it; return False if interrupted.

        Raises ContextFull.
        """
        self._save_turn()  # of the prompt, now that the first token has been sent
        if self._speculation:
            done = self._speculation.advance(token, self.n_past)
        else:
            done = self.context.decode_tokens((token, *certain))
        if done:
            self._sequence.tokens += (token, *certain)
            if self._sampler and token != self._sampled:  # forced: the sampler does not know it
                self._sampler.accept_token(token)
            self._sampled = None
        elif certain:  # of several tokens, llama.cpp keeps the ubatches that were complete
            self._sequence.truncate(self.n_past)
        return done

    def continue_without(self, prompt: Tokens[int], kept: Tokens[int], banned: int) -> bool:
        """Make the context hold `prompt` and `kept` of its answer; do not sample `banned` next.

        From there on the temperature is RETRY_TEMP at least: a network that is caught in a cycle
        would return to it. Not for answers with a grammar. Return False if interrupted.
        """
        drafted = self.drafted
        self.begin(replace(self._sampling, temp=max(self._sampling.temp, RETRY_TEMP)))
        if self._speculation and drafted:
            self._speculation.drafted = drafted  # it is the same answer
        if self._sampler:
            for token in kept:  # for penalties
                self._sampler.accept_token(token)
        if not self.evaluate((*prompt, *kept)).complete:
            return False
        self.context.forbid_token(banned)
        return True

    def end_turn(self) -> None:
        """Save the state of a turn whose answer is complete, or of a prompt read in part."""
        if self._speculation:
            self._speculation.drop_rejected(self.n_past)
        self._sequence.mark_unsaved()
        self._save_turn()

    def _save_turn(self) -> None:
        if self._sequence.save_turn() and self._speculation:
            self._speculation.note_moved_cells()

    def use_states(self, cache: StateCache) -> None:
        """Save and restore states of prompts from now on."""
        self._states = cache
        self._sequence.use_states(cache)

    def _decode(self, tokens: Tokens[int], position: int, count: int) -> bool:
        if tokens[position] < 0:  # the run of an image or sound
            return self.prompts.require_media().decode(self.context, tokens[position], position)
        return self.context.decode_tokens(tokens[position : position + count])

    def close_context(self) -> None:
        """Free sampler, drafter and context; the model stays loaded."""
        if self._sampler:
            self._sampler.close()
            self._sampler = None
        if self._speculation:
            self._speculation.close()
            self._speculation = None
        super().close_context()


@contextmanager
def open_engine(
    path: Path,
    *,
    model_options: ModelOptions,
    context_options: ContextOptions,
    progress: Progress = no_progress,
) -> Iterator[LlamaEngine]:
    """Yield an engine for the file at `path`."""
    interrupt = Interrupt()
    loaded = Model(path, model_options, progress=progress, stop=lambda: interrupt.is_set)
    with (
        closing(loaded) as model,
        closing(LlamaEngine(model, context_options, interrupt)) as engine,
    ):
        yield engine
