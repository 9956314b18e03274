"""Images and sounds in a prompt, through llama.cpp's multimodal library (mtmd).

The encoder turns an image or sound into embeddings, one for each position that it takes in the
prompt. A prompt is a list of token ids, so each of these positions gets a negative number, which is
never used again. A *run* is the numbers of one encoded piece; around it stand the tokens that Gemma
4 expects before and after an image or sound. Two prompts can thus be compared number by number, and
the prefix that they share stays in the KV cache as for text. There is one rule more: a run is
evaluated as a whole, so a prefix may not end inside it (`find_run_start`).

Encoding takes seconds and cannot be interrupted by the abort callback of a context. It runs in a
background thread. After Ctrl-C the caller goes on at once, and the encoder stops at its next group
of operations, because its evaluation callback then returns false.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import BadMedia, Interrupted, RuntimeFailed, UsageError
from g4cli.core.files import require_file
from g4cli.core.gguf import read_header
from g4cli.core.media_file import FORMATS, read_media
from g4cli.core.units import MIB
from g4cli.estimate.media import read_image_grid
from g4cli.prompt.messages import Media
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import IMAGE_TOKENS, MediaOptions
from g4cli.runtime.llama.background import Background
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.runtime.llama.library import LOG, engine_failure, load_llama, load_mtmd

# MTMD_INPUT_CHUNK_TYPE_TEXT and _IMAGE, tools/mtmd/mtmd.h
_TEXT_CHUNK: Final = 0
_IMAGE_CHUNK: Final = 1
# Operations between two calls of the callback that may stop an encoder: each call stops its
# threads.
_OPERATIONS: Final = 8
# For the results together: an image of 280 positions takes 1.7 MiB with E2B, 6 with 31B.
_KEPT_BYTES: Final = 256 * MIB


@dataclass(frozen=True, slots=True)
class _Run:
    """An encoded piece of an image or sound.

    Its numbers in prompts are `first`, `first` - 1 and so on, `n_tokens` of them.
    """

    first: int
    n_tokens: int
    chunk: Any
    embeddings: Any


class MediaEncoder:
    """Encodes images and sounds. Each file is encoded once, while its result is kept.

    Results take at most `kept_bytes` together; those that were not used for the longest time go.
    """

    def __init__(
        self, model: Model, options: MediaOptions, interrupt: Interrupt | None = None
    ) -> None:
        """Load the encoder. Raises RuntimeFailed (for another model, damaged) or UsageError."""
        if options.image_tokens is not None and options.image_tokens not in IMAGE_TOKENS:
            raise UsageError(
                f"the token budget of an image is one of {', '.join(map(str, IMAGE_TOKENS))}",
                hint="--image-tokens 280",
            )
        self._c, self._model = load_mtmd(), model
        params = self._c.mtmd_context_params_default()
        params.use_gpu, params.print_timings, params.warmup = options.use_gpu, False, False
        params.n_threads = options.n_threads or params.n_threads
        if options.image_tokens is not None:
            params.image_max_tokens = options.image_tokens
            params.image_min_tokens = _least_tokens(options.image_tokens)
        self._background = Background(interrupt or Interrupt())
        self._n_operations = 0
        self.kept_bytes = _KEPT_BYTES
        self._on_operation = load_llama().ggml_backend_sched_eval_callback(self.on_operation_done)
        params.cb_eval = self._on_operation
        LOG.clear()
        self._handle = self._c.mtmd_init_from_file(
            os.fsencode(options.mmproj), model.handle, params
        )
        if not self._handle:
            raise engine_failure(
                f"{options.mmproj} is not an encoder for {model.path.name}",
                hint="g4 pull MODEL",
            )
        self.has_vision = bool(self._c.mtmd_support_vision(self._handle))
        self.has_audio = bool(self._c.mtmd_support_audio(self._handle))
        self._max_image = options.image_tokens or IMAGE_TOKENS[-1]
        self._grid = read_image_grid(read_header(options.mmproj)) if self.has_vision else None
        self._runs: dict[int, _Run] = {}
        self._known: dict[tuple[str, int, int], tuple[int, ...]] = {}
        self._digests: dict[int, bytes] = {}  # of runs, by their first numbers
        self._next = -1

    @property
    def n_ubatch(self) -> int:
        """Return the ubatch that an image needs, or 0 for any.

        Models with bidirectional attention within an image must evaluate it in one ubatch.
        """
        return self._max_image if self._c.mtmd_decode_use_non_causal(self._handle, None) else 0

    def encode(self, media: Media) -> bool:
        """Encode a file unless that was done before. Return False if interrupted.

        Raises FileMissing, UsageError, BadMedia (not an image or sound that can be read) or
        RuntimeFailed.
        """
        path = require_file(media.path.expanduser())
        self._require_modality(media.kind, path)
        key = _file_key(path)
        if key in self._known:
            return True

        def encode() -> None:
            data, _header = read_media(path, media.kind, inflate=True)
            self._known[key] = tuple(self._encode(media.kind, path, data))

        done = self._background.run(encode)
        if done:
            self._drop_oldest()
        return done

    def tokens(self, media: Media) -> tuple[int, ...]:
        """Return what stands in a prompt for a file: control tokens and the numbers of its runs.

        Encodes it the first time.

        Raises what `encode` raises, and Interrupted.
        """
        if not self.encode(media):
            raise Interrupted("")
        key = _file_key(media.path.expanduser())
        tokens = self._known[key] = self._known.pop(key)  # the last one used
        return tokens

    def count_pieces(self, media: Media) -> int:
        """Return into how many pieces a file was split: several for sound of more than 30 s."""
        return sum(token in self._runs for token in self.tokens(media))

    def find_run(self, token: int) -> tuple[int, int]:
        """Return the length of the run that begins with `token`, and its first number."""
        run = self._require_run(token)
        return run.n_tokens, run.first

    def find_digest(self, token: int) -> tuple[int, bytes] | None:
        """Return the length of the run that begins with `token` and a digest of its embeddings.

        None if no run begins with it.
        """
        run = self._runs.get(token)
        if run is None:
            return None
        if token not in self._digests:
            self._digests[token] = hashlib.blake2b(run.embeddings, digest_size=16).digest()
        return run.n_tokens, self._digests[token]

    def find_run_start(self, tokens: Sequence[int], position: int) -> int:
        """Return where the run begins that `position` of `tokens` is inside of; else `position`."""
        while position > 0 and tokens[position] < 0 and tokens[position] not in self._runs:
            position -= 1
        return position

    def decode(self, context: Context, token: int, position: int, seq: int = 0) -> bool:
        """Evaluate the run that begins with `token`.

        Return False if interrupted. Raises RuntimeFailed.
        """
        self._background.wait()
        run = self._require_run(token)
        after = load_llama().llama_pos()
        result = self._c.mtmd_helper_decode_image_chunk(
            self._handle,
            context.handle,
            run.chunk,
            run.embeddings,
            position,
            seq,
            max(context.n_batch, run.n_tokens) if self.n_ubatch else context.n_batch,
            ctypes.byref(after),
            self._c.mtmd_helper_post_decode_callback(),
            None,
        )
        if result != 0 and not context.interrupt.is_set:
            raise engine_failure(f"llama.cpp failed to evaluate an image or sound (code {result})")
        return bool(result == 0)

    def _require_run(self, token: int) -> _Run:
        if token not in self._runs:
            raise RuntimeFailed(
                "an image or sound of this prompt is not in memory any more: "
                "too many came after it",
                hint="ask again",
            )
        return self._runs[token]

    def _drop_oldest(self) -> None:
        """Free the results that were not used for the longest time, as far as all take too much."""
        total = sum(ctypes.sizeof(run.embeddings) for run in self._runs.values())
        for key in list(self._known)[:-1]:
            if total <= self.kept_bytes:
                return
            for token in self._known.pop(key):
                self._digests.pop(token, None)
                if run := self._runs.pop(token, None):
                    total -= ctypes.sizeof(run.embeddings)
                    self._c.mtmd_input_chunk_free(run.chunk)

    def close(self) -> None:
        """Free the encoder and all results."""
        self._background.wait()
        for run in self._runs.values():
            self._c.mtmd_input_chunk_free(run.chunk)
        self._runs.clear()
        self._known.clear()
        if self._handle:
            self._c.mtmd_free(self._handle)
            self._handle = None

    def on_operation_done(self, _tensor: int, asks: bool, _data: int) -> bool:
        """The encoder's ggml_backend_sched_eval_callback.

        With `asks` it returns whether the encoder shall stop its threads after this operation to
        call again; without, whether the encoder shall continue.
        """
        if asks:
            self._n_operations += 1
            return self._n_operations % _OPERATIONS == 0
        return not self._background.is_abandoned

    def _require_modality(self, kind: str, path: Path) -> None:
        if kind == "image" and not self.has_vision:
            raise BadMedia(f"{path}: this model takes no images", hint="attach an audio file")
        if kind == "audio" and not self.has_audio:
            raise BadMedia(f"{path}: this model takes no audio", hint="g4 pull e2b")

    def _encode(self, kind: str, path: Path, data: bytes) -> list[int]:
        LOG.clear()
        start = ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8))
        bitmap = self._c.mtmd_helper_bitmap_init_from_buf(self._handle, start, len(data), False)
        if not bitmap:
            raise BadMedia(
                f"{path} cannot be read: it is damaged", hint=f"{kind} formats: {FORMATS[kind]}"
            )
        return self._encode_bitmap(bitmap, path)

    def _encode_bitmap(self, bitmap: Any, path: Path) -> list[int]:
        """Return the tokens of a decoded file, and free the bitmap."""
        chunks = self._c.mtmd_input_chunks_init()
        try:
            self._split_into_chunks(bitmap, chunks, path)
            self._check_positions(bitmap, chunks, path)
            return [
                token
                for index in range(self._c.mtmd_input_chunks_size(chunks))
                for token in self._encode_chunk(self._c.mtmd_input_chunks_get(chunks, index), path)
            ]
        finally:
            self._c.mtmd_input_chunks_free(chunks)
            self._c.mtmd_bitmap_free(bitmap)

    def _split_into_chunks(self, bitmap: Any, chunks: Any, path: Path) -> None:
        part = self._c.mtmd_input_part(None, bitmap)
        parts = (ctypes.POINTER(self._c.mtmd_input_part) * 1)(ctypes.pointer(part))
        if self._c.mtmd_tokenize_from_parts(self._handle, chunks, parts, 1, False):
            raise BadMedia(engine_failure(f"{path} cannot be prepared").message)

    def _check_positions(self, bitmap: Any, chunks: Any, path: Path) -> None:
        """Raise BadMedia for an image that takes more positions than the batch or the encoder has.

        An image that is much longer than wide is scaled to a single row, of any length.
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
                columns, rows = self._grid.count_positions(width, height, least, self._max_image)
                # If llama.cpp counts differently: the side of a single row.
                side = max(columns, rows) if columns * rows == n_tokens else n_tokens
            if n_tokens > self._max_image or side > most:
                raise BadMedia(
                    f"{path} is too narrow for this encoder: {width} x {height} pixels "
                    f"take {n_tokens:,} positions, {side:,} on a side "
                    f"(at most {self._max_image:,}, and {most:,} on a side)",
                    hint="crop it into pieces that are less narrow",
                )

    def _encode_chunk(self, chunk: Any, path: Path) -> list[int]:
        if self._c.mtmd_input_chunk_get_type(chunk) == _TEXT_CHUNK:
            count = ctypes.c_size_t()
            tokens = self._c.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
            return [int(tokens[i]) for i in range(count.value)]
        n_tokens = self._c.mtmd_input_chunk_get_n_tokens(chunk)
        if self._c.mtmd_encode_chunk(self._handle, chunk):
            raise engine_failure(f"{path} cannot be encoded")
        if self._background.is_abandoned:
            raise Interrupted("")  # a stopped encoder reports success
        n_values = n_tokens * load_llama().llama_model_n_embd_inp(self._model.handle)
        embeddings = (ctypes.c_float * n_values)()
        # The library's own buffer is overwritten by the next medium.
        ctypes.memmove(
            embeddings, self._c.mtmd_get_output_embd(self._handle), ctypes.sizeof(embeddings)
        )
        first = self._next
        self._next -= n_tokens
        copy = self._c.mtmd_input_chunk_copy(chunk)
        if not copy:
            raise RuntimeFailed(f"{path}: not enough memory")
        self._runs[first] = _Run(first, n_tokens, copy, embeddings)
        return [first - i for i in range(n_tokens)]


def _least_tokens(most: int) -> int:
    """Return the positions to which small images are enlarged; rounding up can double them."""
    return min(most // 2, IMAGE_TOKENS[0])


def _file_key(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns
