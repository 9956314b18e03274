"""Sampling under a grammar: logits of tokens that it does not allow become minus infinity.

Which tokens those are says a process of its own (`masks`). Since all samplers come after the mask,
every token is allowed by construction, and among the allowed ones the model chooses as always.
Where only a few are allowed, the samplers see these alone, which is the same and costs less.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from g4cli.core.errors import RuntimeFailed
from g4cli.prompt.reply import CALL_CLOSE, CALL_OPEN, CHANNEL_CLOSE, CHANNEL_OPEN
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.mask_frames import pack_vocabulary
from g4cli.runtime.engine.masks import MaskProcess
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import GrammarScope, Sampling
from g4cli.runtime.engine.sampler import Sampler
from g4cli.runtime.llama.library import load_llama

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Tokens that a vocabulary marks as ordinary text, and that have a meaning to Gemma all the same.
_MARK: Final = re.compile(rb"<\|[^<>]*>|<[^<>]*\|>")
_PIECE_BYTES: Final = 1 << 12  # for one token; longer ones, of hostile files, take another call
_CONTROL: Final = b"\xff"  # what llguidance puts before the number of a control token
MAX_CERTAIN: Final = 16  # a choice: tokens that are evaluated at once without a look at Ctrl-C


def make_mask_process(model: Model) -> MaskProcess:
    """Return the process for grammars over the vocabulary of `model`; it is not started yet."""
    return MaskProcess(model.n_vocab, lambda: pack_model(model))


def pack_model(model: Model) -> bytes:
    """Return the vocabulary of `model` for `mask_child`: 262,144 tokens in half a second."""
    c, vocab = load_llama(), model.vocab
    buffer = ctypes.create_string_buffer(_PIECE_BYTES)
    pieces, controls = [], []
    for token in range(model.n_vocab):
        size = c.llama_token_to_piece(vocab, token, buffer, _PIECE_BYTES, 0, True)
        piece = ctypes.string_at(buffer, size) if size >= 0 else model.piece(token)
        pieces.append(piece)
        if piece[:1] == b"<" and (
            c.llama_vocab_get_attr(vocab, token) & c.LLAMA_TOKEN_ATTR_CONTROL
            or _MARK.fullmatch(piece)
        ):
            controls.append(token)
    return pack_vocabulary(pieces, controls, model.end_tokens)


class GrammarSampler:
    """A sampler chain restricted, where `scope` says so, to the tokens that the grammar allows."""

    def __init__(
        self,
        model: Model,
        sampling: Sampling,
        masks: MaskProcess,
        grammar: str,
        scope: GrammarScope = "all",
        *,
        keep_logits: bool = False,
        is_stopped: Callable[[], bool] = bool,
    ) -> None:
        """Begin to compile the grammar, in llguidance's JSON.

        `keep_logits`: the logits are read after the token was sampled. `is_stopped`: whether to
        give up waiting for a mask (`bool()` is False: never).
        """
        from g4cli.runtime.engine.candidates import MAX_CANDIDATES, CandidateArray

        self._sampler = Sampler(model, sampling)
        self._sampler.find_candidates_first()
        self._candidates, self._most_candidates = CandidateArray(), MAX_CANDIDATES
        self._stream = masks.open_stream(grammar)
        self._n_vocab, self._keep_logits = model.n_vocab, keep_logits
        self._model, self._is_stopped = model, is_stopped
        self._had_few = False  # whether the last token was chosen among MAX_CANDIDATES or fewer
        self._has_ended = False
        self._ends = frozenset(model.end_tokens)
        self._scope = scope
        self._is_active = scope == "all"
        self._may_think = scope == "after-thought"  # with the next token
        self._call_open, self._call_close, self._thought_open, self._thought_close = (
            model.tokenize(mark, control=True)[0]
            for mark in (CALL_OPEN, CALL_CLOSE, CHANNEL_OPEN, CHANNEL_CLOSE)
        )

    @property
    def is_ready(self) -> bool:
        """Return whether `sample_token` need not wait."""
        return self._stream.is_ready

    def sample_token(self, context: Context) -> int:
        """Return the next token.

        Raises UsageError if the grammar cannot be compiled, RuntimeFailed if it allows no token
        that can be sampled, or exceeds a limit, Interrupted if the wait for it was stopped.
        """
        if self._is_active or self._may_think:
            token = self._sample_allowed(context)
        else:
            token = self._sampler.sample_token(context)
            if token in self._ends and self._scope == "after-thought":
                token = self._thought_close  # an answer has to follow
        self._record_token(token)
        return token

    def accept_token(self, token: int) -> None:
        """Record the next token of the answer, which was not sampled."""
        self._sampler.accept_token(token)
        self._record_token(token)

    def read_probability(self, _context: Context, _token: int) -> None:
        """Return None: the model may be certain only because nothing else was allowed."""

    def take_certain_tokens(self) -> list[int]:
        """Return the tokens that follow the last one in any case, and record them.

        They are the tokens of the text that the grammar leaves no choice about, such as the name of
        the next property, in the way in which the vocabulary writes it. The last one is left to the
        model, since it may merge with what comes after it.

        To know them, the mask of the next token is waited for, which otherwise is computed while
        the model evaluates this one. Where the model had the choice among many tokens, such text is
        rare, and nobody asks for it. None are taken where the logits of each token are asked for.
        """
        if not self._is_active or self._has_ended or not self._looks_ahead:
            return []
        tokens = self._write_canonically(self._stream.find_certain_bytes(self._is_stopped))
        for token in tokens:
            self._sampler.accept_token(token)
        if tokens:
            self._stream.add_tokens(*tokens)
        return tokens

    @property
    def _looks_ahead(self) -> bool:
        return self._had_few and not self._keep_logits

    def _write_canonically(self, data: bytes) -> list[int]:
        """Return the tokens of a text without the last one, [] if they depend on what follows."""
        data = data.partition(_CONTROL)[0]
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as err:  # it ends, or begins, within a character
            text = data[: err.start].decode("utf-8")
        if len(text) < 2:
            return []
        tokens = self._model.tokenize(text, control=False)[:-1][:MAX_CERTAIN]
        try:
            written = b"".join(map(self._model.piece, tokens)).decode("utf-8")
        except UnicodeDecodeError:
            return []
        is_canonical = self._model.tokenize(written, control=False) == tokens
        return tokens if is_canonical and text.startswith(written) else []

    def _sample_allowed(self, context: Context) -> int:
        import numpy as np

        allowed = self._stream.take_mask(self._is_stopped)
        if self._may_think:
            allowed[self._thought_open] = True
        logits: NDArray[np.float32] = np.ctypeslib.as_array(context.get_logits(), (self._n_vocab,))
        n_allowed = int(np.count_nonzero(allowed))
        self._had_few = n_allowed <= self._most_candidates
        if n_allowed and self._had_few:
            ids = np.flatnonzero(allowed)
            token = self._sampler.sample_among(self._candidates, ids, logits)
        else:
            kept = logits.copy() if self._keep_logits else None
            np.putmask(logits, ~allowed, -np.inf)
            token = self._sampler.sample_token(context)
            if kept is not None:
                logits[:] = kept
        if token < 0 or not allowed[token]:
            raise RuntimeFailed(
                "the grammar allows no token here",
                hint="a rule of the grammar ends where the answer cannot",
            )
        return token

    def _record_token(self, token: int) -> None:
        begins_thought = self._may_think and token == self._thought_open
        if self._may_think and not begins_thought:
            self._is_active = True
        self._may_think = False
        self._has_ended = token in self._ends
        if self._has_ended:
            return
        if self._scope == "calls" and self._is_active and token == self._call_close:
            self._is_active = False
        elif self._is_active:
            self._stream.add_tokens(token, ahead=self._looks_ahead)
        elif self._scope == "calls" and token == self._call_open:
            self._is_active = self._had_few = True
            self._stream.reset()  # each call from its beginning
        elif self._scope == "after-thought" and token == self._thought_close:
            self._is_active = True
        elif self._scope == "after-thought" and token == self._call_open:
            self._end_thought_by_call()

    def _end_thought_by_call(self) -> None:
        """Let the answer begin with a call, which ends a thought too, if the grammar has calls."""
        if self._stream.take_mask(self._is_stopped)[self._call_open]:
            self._is_active = self._had_few = True
            self._stream.add_tokens(self._call_open, ahead=self._looks_ahead)

    def close(self) -> None:
        """Free the sampler chain and forget the grammar."""
        self._stream.close()
        self._sampler.close()
