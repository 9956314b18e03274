"""Images and sounds as positions of a prompt, through llama.cpp's multimodal library.

A prompt is a list of token ids; a medium stands in it as a run of negative numbers, one per position, never
used twice. So comparing two prompts, and keeping their common start in memory, needs no special case but
one: a run is evaluated as a whole.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import BadMedia, Interrupted, RuntimeFailed, UsageError
from g4cli.core.files import require_file
from g4cli.core.gguf import read_header
from g4cli.core.media_file import FORMATS, read_media
from g4cli.estimate.media import image_grid
from g4cli.prompt.messages import Media
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import IMAGE_TOKENS, MediaOptions
from g4cli.runtime.llama.background import Background
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.runtime.llama.library import LOG, failed, llama, mtmd

# MTMD_INPUT_CHUNK_TYPE_TEXT and _IMAGE, tools/mtmd/mtmd.h
_TEXT_CHUNK: Final = 0
_IMAGE_CHUNK: Final = 1
# Operations of an encoder between two questions whether to go on: each costs a step out of its threads.
_OPERATIONS: Final = 8


@dataclass(frozen=True, slots=True)
class _Run:
    """A medium's positions in prompts: `first` is the number of its first one."""

    first: int
    n_tokens: int
    chunk: Any
    embeddings: Any


class MediaEncoder:
    """Encodes each file once and keeps the result as long as the chat lasts."""

    def __init__(
        self, model: Model, options: MediaOptions, interrupt: Interrupt | None = None
    ) -> None:
        """Load the encoder. Raises RuntimeFailed (not this model's, damaged) or UsageError."""
        if options.image_tokens is not None and options.image_tokens not in IMAGE_TOKENS:
            raise UsageError(
                f"an image takes one of {', '.join(map(str, IMAGE_TOKENS))} tokens",
                hint="--image-tokens 280",
            )
        self._c, self._model = mtmd(), model
        params = self._c.mtmd_context_params_default()
        params.use_gpu, params.print_timings, params.warmup = options.use_gpu, False, False
        params.n_threads = options.n_threads or params.n_threads
        if options.image_tokens is not None:
            params.image_max_tokens = options.image_tokens
            params.image_min_tokens = _least_tokens(options.image_tokens)
        self._background = Background(interrupt or Interrupt())
        self._n_operations = 0
        self._on_operation = llama().ggml_backend_sched_eval_callback(self._goes_on)
        params.cb_eval = self._on_operation
        LOG.clear()
        self._handle = self._c.mtmd_init_from_file(
            os.fsencode(options.mmproj), model.handle, params
        )
        if not self._handle:
            raise failed(
                f"{options.mmproj} is no encoder for {model.path.name}",
                hint="g4 pull MODEL fetches its own",
            )
        self.has_vision = bool(self._c.mtmd_support_vision(self._handle))
        self.has_audio = bool(self._c.mtmd_support_audio(self._handle))
        self._max_image = options.image_tokens or IMAGE_TOKENS[-1]
        self._grid = image_grid(read_header(options.mmproj)) if self.has_vision else None
        self._runs: dict[int, _Run] = {}
        self._known: dict[tuple[str, int, int], tuple[int, ...]] = {}
        self._next = -1

    @property
    def n_ubatch(self) -> int:
        """Return the batch that must hold an image whole, or 0: networks that look at it both ways."""
        return self._max_image if self._c.mtmd_decode_use_non_causal(self._handle, None) else 0

    def encode(self, media: Media) -> bool:
        """Encode a file if that was not done before; return False if interrupted, at once.

        The encoder then stops after the operations that it is in, while the user goes on. Raises FileMissing,
        UsageError, BadMedia (not a picture or sound that can be read) or RuntimeFailed.
        """
        path = require_file(media.path.expanduser())
        self._require(media.kind, path)
        key = _key(path)
        if key in self._known:
            return True

        def encode() -> None:
            data, _header = read_media(path, media.kind, inflate=True)
            self._known[key] = tuple(self._encode(media.kind, path, data))

        return self._background.run(encode)

    def tokens(self, media: Media) -> tuple[int, ...]:
        """Return the prompt's tokens for a file: its marks around positions. Encodes it the first time.

        Raises what `encode` raises, and Interrupted.
        """
        if not self.encode(media):
            raise Interrupted("")
        return self._known[_key(media.path.expanduser())]

    def parts(self, media: Media) -> int:
        """Return into how many pieces the library cut a file: sound over 30 s is heard in several."""
        return sum(token in self._runs for token in self.tokens(media))

    def run_at(self, token: int) -> tuple[int, int]:
        """Return how many positions the run that begins with `token` has, and its first number."""
        run = self._runs[token]
        return run.n_tokens, run.first

    def start_of(self, tokens: Sequence[int], position: int) -> int:
        """Return where the run that covers `position` of `tokens` begins (or `position` outside of runs)."""
        while position > 0 and tokens[position] < 0 and tokens[position] not in self._runs:
            position -= 1
        return position

    def decode(self, context: Context, token: int, position: int) -> bool:
        """Evaluate the run that begins with `token`; return False if interrupted. Raises RuntimeFailed."""
        self._background.wait()
        run = self._runs[token]
        after = llama().llama_pos()
        result = self._c.mtmd_helper_decode_image_chunk(
            self._handle,
            context.handle,
            run.chunk,
            run.embeddings,
            position,
            0,
            max(context.n_batch, run.n_tokens) if self.n_ubatch else context.n_batch,
            ctypes.byref(after),
            self._c.mtmd_helper_post_decode_callback(),
            None,
        )
        if result != 0 and not context.interrupt.is_set:
            raise failed(f"llama.cpp failed to evaluate a medium (code {result})")
        return bool(result == 0)

    def close(self) -> None:
        """Free the encoder and what it encoded."""
        self._background.wait()
        for run in self._runs.values():
            self._c.mtmd_input_chunk_free(run.chunk)
        self._runs.clear()
        self._known.clear()
        if self._handle:
            self._c.mtmd_free(self._handle)
            self._handle = None

    def _goes_on(self, _tensor: int, asks: bool, _data: int) -> bool:
        """Answer the encoder (ggml_backend_sched_eval_callback): may it stop here; shall it go on?"""
        if asks:
            self._n_operations += 1
            return self._n_operations % _OPERATIONS == 0
        return not self._background.is_left

    def _require(self, kind: str, path: Path) -> None:
        if kind == "image" and not self.has_vision:
            raise BadMedia(f"{path}: this model sees no images", hint="an audio file works")
        if kind == "audio" and not self.has_audio:
            raise BadMedia(f"{path}: this model hears no sound", hint="g4 pull e2b")

    def _encode(self, kind: str, path: Path, data: bytes) -> list[int]:
        LOG.clear()
        start = ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8))
        bitmap = self._c.mtmd_helper_bitmap_init_from_buf(self._handle, start, len(data), False)
        if not bitmap:
            raise BadMedia(
                f"{path} cannot be read: it is damaged", hint=f"{kind} formats: {FORMATS[kind]}"
            )
        return self._take(bitmap, path)

    def _take(self, bitmap: Any, path: Path) -> list[int]:
        """Return the tokens of a decoded file, and free it."""
        chunks = self._c.mtmd_input_chunks_init()
        try:
            self._split(bitmap, chunks, path)
            self._check_positions(bitmap, chunks, path)
            return [
                token
                for index in range(self._c.mtmd_input_chunks_size(chunks))
                for token in self._chunk_tokens(self._c.mtmd_input_chunks_get(chunks, index), path)
            ]
        finally:
            self._c.mtmd_input_chunks_free(chunks)
            self._c.mtmd_bitmap_free(bitmap)

    def _split(self, bitmap: Any, chunks: Any, path: Path) -> None:
        part = self._c.mtmd_input_part(None, bitmap)
        parts = (ctypes.POINTER(self._c.mtmd_input_part) * 1)(ctypes.pointer(part))
        if self._c.mtmd_tokenize_from_parts(self._handle, chunks, parts, 1, False):
            raise BadMedia(failed(f"{path} cannot be prepared").message)

    def _check_positions(self, bitmap: Any, chunks: Any, path: Path) -> None:
        """Raise BadMedia for an image that takes more positions than the batch or the encoder has.

        A picture that is far longer than wide is scaled to a single row, of any length.
        """
        images = [
            self._c.mtmd_input_chunk_get_n_tokens(chunk)
            for index in range(self._c.mtmd_input_chunks_size(chunks))
            for chunk in [self._c.mtmd_input_chunks_get(chunks, index)]
            if self._c.mtmd_input_chunk_get_type(chunk) == _IMAGE_CHUNK
        ]
        for n_tokens in images:
            width, height = self._c.mtmd_bitmap_get_nx(bitmap), self._c.mtmd_bitmap_get_ny(bitmap)
            side, most = n_tokens, n_tokens
            if self._grid is not None:
                most = self._grid.most_positions
                least = _least_tokens(self._max_image)
                columns, rows = self._grid.positions(width, height, least, self._max_image)
                # Where llama.cpp counts otherwise, as if they stood in one row.
                side = max(columns, rows) if columns * rows == n_tokens else n_tokens
            if n_tokens > self._max_image or side > most:
                raise BadMedia(
                    f"{path} is too narrow for this encoder: {width} x {height} pixels take {n_tokens:,} "
                    f"positions, {side:,} on a side (at most {self._max_image:,}, and {most:,} on a side)",
                    hint="cut it into pieces that are less narrow",
                )

    def _chunk_tokens(self, chunk: Any, path: Path) -> list[int]:
        if self._c.mtmd_input_chunk_get_type(chunk) == _TEXT_CHUNK:
            count = ctypes.c_size_t()
            tokens = self._c.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
            return [int(tokens[i]) for i in range(count.value)]
        n_tokens = self._c.mtmd_input_chunk_get_n_tokens(chunk)
        if self._c.mtmd_encode_chunk(self._handle, chunk):
            raise failed(f"{path} cannot be encoded")
        if self._background.is_left:
            raise Interrupted("")  # an encoder that was stopped reports success
        n_values = n_tokens * llama().llama_model_n_embd_inp(self._model.handle)
        embeddings = (ctypes.c_float * n_values)()
        # The library's own buffer is overwritten by the next medium.
        ctypes.memmove(
            embeddings, self._c.mtmd_get_output_embd(self._handle), ctypes.sizeof(embeddings)
        )
        first = self._next
        self._next -= n_tokens
        copy = self._c.mtmd_input_chunk_copy(chunk)
        if not copy:
            raise RuntimeFailed(f"{path}: no memory for its description")
        self._runs[first] = _Run(first, n_tokens, copy, embeddings)
        return [first - i for i in range(n_tokens)]


def _least_tokens(most: int) -> int:
    """Return to how many positions small images are enlarged: rounding up can double them."""
    return min(most // 2, IMAGE_TOKENS[0])


def _key(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns
