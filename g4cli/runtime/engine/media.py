"""Images and sounds in a prompt, through llama.cpp's multimodal library (mtmd).

The encoder turns an image or sound into embeddings, one for each position that it takes in the
prompt. A prompt is a list of token ids, so each of these positions gets a negative number, which is
never used again. A *run* is the numbers of one encoded piece; around it stand the tokens that Gemma
4 expects before and after an image or sound. Two prompts can thus be compared number by number, and
the prefix that they share stays in the KV cache as for text. There is one rule more: a run is
evaluated as a whole, so a prefix may not end inside it (`find_run_start`).

A prompt needs the numbers of an image long before its embeddings. So a file is first only *split*:
decoded, scaled, cut into pieces whose positions are counted. A piece is encoded when the evaluation
of a prompt comes to it. What was split and encoded is kept while there is room for it; what was
dropped is made again from the file, with the same numbers. So it does not matter to a prompt that
waits how many images of others come in the meantime.

Encoding takes seconds and cannot be interrupted by the abort callback of a context. It runs in a
background thread. After Ctrl-C the caller goes on at once, and the encoder stops at its next group
of operations, because its evaluation callback then returns false. The scheduler does not wait
either: it asks for a piece (`prepare_run`) and goes on with what others answer. The encoder has a
context, buffers and threads of its own; split (mtmd_tokenize takes the encoder as const) and decode
read only its settings.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from g4cli.core.errors import BadMedia, Interrupted, RuntimeFailed
from g4cli.core.files import require_file
from g4cli.core.gguf import read_header
from g4cli.core.paths import expand_home
from g4cli.core.units import MIB
from g4cli.estimate.media import read_image_grid
from g4cli.prompt.messages import Media
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.media_split import (
    TEXT_CHUNK,
    ImageLimits,
    Medium,
    Run,
    least_positions,
    make_file_key,
    split_file,
)
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import IMAGE_TOKENS, MediaOptions, require_image_tokens
from g4cli.runtime.engine.saved_embeddings import SavedEmbeddings
from g4cli.runtime.llama.background import Background
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.runtime.llama.library import LOG, engine_failure, load_llama, load_mtmd
from g4cli.store.states.model_id import identify_model

if TYPE_CHECKING:
    from g4cli.runtime.engine.state_cache import StateCache

# Operations between two calls of the callback that may stop an encoder. A choice: each call makes
# the encoder's threads wait, and an abandoned encoder should not compute for long.
_OPERATIONS: Final = 8
# A choice, for all that is kept: an image of 280 positions takes 7.4 MiB split, and encoded
# 1.7 MiB with E2B, 6 with 31B.
_KEPT_BYTES: Final = 256 * MIB
_MAX_KNOWN: Final = 16384  # files whose numbers are remembered: beyond what can wait at once


class MediaEncoder:
    """Splits and encodes images and sounds. Each file is encoded once, while its result is kept.

    What is kept takes at most `kept_bytes` together; what was not used for the longest time goes.
    Several threads may use it.
    """

    def __init__(
        self,
        model: Model,
        options: MediaOptions,
        interrupt: Interrupt | None = None,
        states: StateCache | None = None,
    ) -> None:
        """Load the encoder. `states`: where embeddings are saved beside states of prompts.

        Raises RuntimeFailed (for another model, damaged) or UsageError.
        """
        if options.image_tokens is not None:
            require_image_tokens(options.image_tokens)
        self._c, self._model = load_mtmd(), model
        params = self._c.mtmd_context_params_default()
        params.use_gpu, params.print_timings, params.warmup = options.use_gpu, False, False
        params.n_threads = options.n_threads or params.n_threads
        if options.image_tokens is not None:
            params.image_max_tokens = options.image_tokens
            params.image_min_tokens = least_positions(options.image_tokens)
        self._background = Background(interrupt or Interrupt())
        self._n_operations = 0
        self.kept_bytes = _KEPT_BYTES if options.cache else 0
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
        encoder_id = identify_model(options.mmproj)
        self._identity = (encoder_id, options.image_tokens)  # what embeddings depend on
        self._saved = SavedEmbeddings(states, encoder_id, options) if states else None
        self.has_vision = bool(self._c.mtmd_support_vision(self._handle))
        self.has_audio = bool(self._c.mtmd_support_audio(self._handle))
        grid = read_image_grid(read_header(options.mmproj)) if self.has_vision else None
        self.limits = ImageLimits(options.image_tokens or IMAGE_TOKENS[-1], grid)
        self._runs: dict[int, Run] = {}
        self._known: dict[tuple[str, int, int], Medium] = {}  # least recently used first
        self._next = -1  # the number of the next position: counted downwards
        self._lock = threading.RLock()  # of these three and of what is kept
        self._splitting = threading.Lock()
        self._encoding: Run | None = None
        self._pinned: list[Medium] = []  # in use: must not be dropped now

    @property
    def n_ubatch(self) -> int:
        """Return the ubatch that an image needs, or 0 for any.

        Models with bidirectional attention within an image must evaluate it in one ubatch.
        """
        return (
            self.limits.most_positions
            if self._c.mtmd_decode_use_non_causal(self._handle, None)
            else 0
        )

    def encode(self, media: Media) -> bool:
        """Encode a file unless that was done before. Return False if interrupted.

        Raises FileMissing, UsageError, BadMedia (not an image or sound that can be read) or
        RuntimeFailed.
        """

        def encode() -> None:
            for run in self.split(media).runs:
                self._encode_run(run)

        return self._background.run(encode)

    def count_run_tokens(self, token: int) -> int:
        """Return how many positions the run that begins with `token` takes."""
        return self._require_run(token).n_tokens

    def find_digest(self, token: int) -> tuple[int, bytes] | None:
        """Return the length of the run that begins with `token`, and a digest of what it shows.

        The digest is that of the file, the piece and the encoder: equal ones mean equal embeddings.
        None if no run begins with it.
        """
        run = self._runs.get(token)
        return None if run is None else (run.n_tokens, run.digest(self._identity))

    def find_run_start(self, tokens: Sequence[int], position: int) -> int:
        """Return where the run begins that `position` of `tokens` is inside of; else `position`."""
        while position > 0 and tokens[position] < 0 and tokens[position] not in self._runs:
            position -= 1
        return position

    def prepare_run(self, token: int) -> bool:
        """Return whether the run that begins with `token` is encoded.

        If not, it is being encoded as soon as the encoder has time: ask again. Raises the error
        with which that ended.
        """
        run = self._require_run(token)
        if run.embeddings is not None:
            return True
        error, run.error = run.error, None
        if error is not None:
            raise error

        def encode() -> None:
            try:
                self._encode_run(run)
            except Interrupted:
                pass  # whoever needs it still asks again
            except Exception as err:
                run.error = err

        if self._background.start(encode):
            self._encoding = run
        return False

    def wait(self, seconds: float) -> None:
        """Wait until the encoder has time, at most so long."""
        self._background.wait(seconds)

    def abandon_run(self, token: int) -> None:
        """Stop the encoding of the run that begins with `token`, if it goes on."""
        if self._encoding is not None and self._encoding.first == token:
            self._background.abandon()

    def decode(self, context: Context, token: int, position: int, seq: int = 0) -> bool:
        """Evaluate the run that begins with `token`, encoded before if it is not.

        Return False if interrupted. Raises RuntimeFailed.
        """
        run = self._require_run(token)
        with self._pin_medium(run.medium):
            if run.embeddings is None and not self._background.run(lambda: self._encode_run(run)):
                return False
            result: int = self._c.mtmd_helper_decode_image_chunk(
                self._handle,
                context.handle,
                self._c.mtmd_input_chunks_get(run.medium.chunks, run.index),
                run.embeddings,
                position,
                seq,
                context.n_batch,
                ctypes.byref(load_llama().llama_pos()),  # the position behind it: not needed
                self._c.mtmd_helper_post_decode_callback(),
                None,
            )
        if result != 0 and not context.interrupt.is_set:
            raise engine_failure(f"llama.cpp failed to evaluate an image or sound (code {result})")
        return result == 0

    @contextmanager
    def _pin_medium(self, medium: Medium) -> Iterator[None]:
        """Keep the chunks and embeddings of a file while the block uses them."""
        with self._lock:
            self._pinned.append(medium)
        try:
            yield
        finally:
            with self._lock:
                self._pinned.remove(medium)

    def _require_run(self, token: int) -> Run:
        if token not in self._runs:
            raise RuntimeFailed(
                "an image or sound of this prompt is not known any more: too many came after it",
                hint="ask again",
            )
        return self._runs[token]

    def split(self, media: Media) -> Medium:
        """Return the file with the numbers of its positions, split anew unless it is known.

        Nothing is encoded yet. Raises FileMissing, UsageError or BadMedia.
        """
        path = require_file(expand_home(media.path))
        self._require_modality(media.kind, path)
        key = make_file_key(path)
        with self._splitting:
            medium = self._known.get(key)
            if medium is None:
                medium = Medium(media, path, key)
                self._read_chunks(medium)
            with self._lock:
                self._known.pop(key, None)
                self._known[key] = medium  # the last one used
                self._drop_oldest()
        return medium

    def _drop_oldest(self) -> None:
        """Free what was not used for the longest time, as far as all takes too much."""
        total = sum(medium.kept_bytes for medium in self._known.values())
        for medium in list(self._known.values())[:-1]:  # the newest one stays in any case
            if total <= self.kept_bytes:
                break
            if medium not in self._pinned:
                total -= medium.kept_bytes
                medium.drop_results(self._c)
        for key in list(self._known)[:-_MAX_KNOWN]:
            if self._known[key] not in self._pinned:
                medium = self._known.pop(key)
                medium.drop_results(self._c)
                for run in medium.runs:
                    del self._runs[run.first]

    def close(self) -> None:
        """Free the encoder and all results."""
        self._background.wait()
        for medium in self._known.values():
            medium.drop_results(self._c)
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

    def _read_chunks(self, medium: Medium) -> None:
        """Split the file of `medium`; the first time its pieces get their numbers.

        Raises FileMissing, BadMedia or RuntimeFailed (the file is gone, or another one by now).
        """
        kind, path = medium.media.kind, medium.path
        if not path.is_file() or make_file_key(path) != medium.key:
            raise RuntimeFailed(
                "an image or sound of this prompt has changed or is gone", hint="attach it again"
            )
        chunks, medium.digest = split_file(self._c, self._handle, path, kind, self.limits)
        if not medium.tokens:
            self._number_chunks(medium, chunks)
        with self._lock:
            medium.chunks = chunks

    def _number_chunks(self, medium: Medium, chunks: Any) -> None:
        tokens: list[int] = []
        with self._lock:
            for index in range(self._c.mtmd_input_chunks_size(chunks)):
                chunk = self._c.mtmd_input_chunks_get(chunks, index)
                if self._c.mtmd_input_chunk_get_type(chunk) == TEXT_CHUNK:
                    count = ctypes.c_size_t()
                    text = self._c.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
                    tokens += [int(text[i]) for i in range(count.value)]
                    continue
                n_tokens = self._c.mtmd_input_chunk_get_n_tokens(chunk)
                run = Run(self._next, n_tokens, medium, index)
                self._next -= n_tokens
                self._runs[run.first] = run
                medium.runs.append(run)
                tokens += range(run.first, run.first - n_tokens, -1)
        medium.tokens = tuple(tokens)

    def _encode_run(self, run: Run) -> None:
        """Encode a piece, in the background thread. Raises Interrupted if it is abandoned."""
        with self._pin_medium(run.medium):
            with self._splitting:
                if run.medium.chunks is None:
                    self._read_chunks(run.medium)
            if run.embeddings is None:
                digest, n_values = run.digest(self._identity), self._count_values(run)
                saved = self._saved
                embeddings = saved.read(digest, run.n_tokens, n_values) if saved else None
                if embeddings is None:
                    embeddings = self.compute_embeddings(run)
                    if saved:
                        saved.write_later(digest, run.n_tokens, embeddings)
                with self._lock:
                    run.embeddings = embeddings
                    if run.medium.key in self._known:
                        self._known[run.medium.key] = self._known.pop(run.medium.key)
                    self._drop_oldest()

    def _count_values(self, run: Run) -> int:
        return int(run.n_tokens * load_llama().llama_model_n_embd_inp(self._model.handle))

    def compute_embeddings(self, run: Run) -> Any:
        """Return the embeddings of a run, a C array of floats. Raises Interrupted, RuntimeFailed.

        The encoder computes for up to seconds; another thread may stop it.
        """
        LOG.clear()
        chunk = self._c.mtmd_input_chunks_get(run.medium.chunks, run.index)
        failed = self._c.mtmd_encode_chunk(self._handle, chunk)
        if self._background.is_abandoned:
            raise Interrupted("")  # a stopped encoder reports success
        if failed:
            raise engine_failure(f"{run.medium.path} cannot be encoded")
        embeddings = (ctypes.c_float * self._count_values(run))()
        # The library's own buffer is overwritten by the next medium.
        ctypes.memmove(
            embeddings, self._c.mtmd_get_output_embd(self._handle), ctypes.sizeof(embeddings)
        )
        return embeddings
