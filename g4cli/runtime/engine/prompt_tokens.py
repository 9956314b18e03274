"""Prompts as tokens: text, and negative numbers for positions of images and sounds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from g4cli.core.errors import UsageError
from g4cli.prompt.messages import Part
from g4cli.runtime.engine.model import Model
from g4cli.store.states.keys import TOKEN_BYTES, pack_tokens

if TYPE_CHECKING:
    from g4cli.runtime.engine.media import MediaEncoder

# The place after "<" in control tokens that the vocabulary marks as ordinary text.
_AFTER_ANGLE: Final = re.compile(r'(?<=<)(?=(?:\|?(?:channel|tool_call|tool_response)\|?|\|"\|)>)')


class PromptTokens:
    """Tokenizes prompts of a model and tells the runs in them, which are evaluated as a whole."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.media: MediaEncoder | None = None

    def tokens_of(self, parts: Sequence[Part], *, with_bos: bool = True) -> list[int]:
        """Return the tokens of a rendered prompt, exactly one BOS at its start if it is wanted."""
        tokens: list[int] = []
        for part in parts:
            if part.media is not None:
                tokens += self.require_media().split(part.media).tokens
                continue
            if part.tokens or part.control:
                tokens += part.tokens or self._model.tokenize(part.text, control=True)
                continue
            # llama.cpp makes "<|channel>" a control token even in a user's text. Where the text is
            # split behind "<", it becomes the tokens of its letters.
            for piece in _AFTER_ANGLE.split(part.text):
                tokens += self._model.tokenize(piece, control=False)
        bos = self._model.bos
        if with_bos and bos >= 0 and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        return tokens

    def count_next_batch(self, tokens: Sequence[int], position: int, most: int) -> int:
        """Return how many tokens to evaluate next: a whole run, or text up to a run or `most`."""
        if tokens[position] < 0:
            return self.require_media().count_run_tokens(tokens[position])
        piece = tokens[position : position + most]
        return next((index for index, token in enumerate(piece) if token < 0), len(piece))

    def round_down_to_run(self, tokens: Sequence[int], position: int) -> int:
        """Return `position`, or where the run (an image or sound) begins that it is inside of."""
        if self.media is None or position >= len(tokens):
            return position
        return self.media.find_run_start(tokens, position)

    def pack_tokens(self, tokens: Sequence[int]) -> bytes | None:
        """Return `tokens` as 4 bytes each, which are the same in every process.

        In the place of the numbers of a run stands the digest of its embeddings, repeated. None if
        a run is not in memory any more.
        """
        packed, position = bytearray(pack_tokens(tokens)), 0
        while (start := _find_negative(tokens, position)) is not None:
            run = self.require_media().find_digest(tokens[start])
            if run is None:
                return None
            n_tokens, digest = run
            position = start + n_tokens
            size = TOKEN_BYTES
            packed[size * start : size * position] = (digest * n_tokens)[: size * n_tokens]
        return bytes(packed)

    def require_media(self) -> MediaEncoder:
        """Return the encoder of images and sound. Raises UsageError if none is attached."""
        if self.media is None:
            raise UsageError(
                f"no encoder of images and sound is loaded for {self._model.path.name}",
                hint="--mmproj FILE, or g4 pull MODEL",
            )
        return self.media


def _find_negative(tokens: Sequence[int], start: int) -> int | None:
    """Return where the first negative number from `start` on is."""
    return next((index for index in range(start, len(tokens)) if tokens[index] < 0), None)
