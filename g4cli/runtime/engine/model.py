"""A loaded model and its vocabulary, through llama.cpp's C interface."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import Interrupted, RuntimeFailed
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_word
from g4cli.runtime.engine.options import MODEL_DEFAULTS, ModelOptions
from g4cli.runtime.llama.devices import (
    can_offload,
    keep_experts_on_cpu,
    load_ggml,
    make_device_error,
)
from g4cli.runtime.llama.library import LOG, engine_failure, load_llama
from g4cli.runtime.llama.rpc import register_workers, watch_workers

# enum llama_lazy_mode, include/llama.h: "on" reads rows of tables when they are used.
_LAZY: Final = {"off": 0, "auto": 1, "on": 2}
_PIECE_BYTES: Final = 512  # to begin with: a longer piece gets a larger buffer
_KNOWN_TOKENS: Final = 1 << 15  # a choice: tokens of which answers are kept; llama.cpp takes longer
# enum llama_load_mode, include/llama.h
_LOAD_NONE, _LOAD_MMAP = 0, 1


class Model:
    """A loaded model. Close it after its contexts."""

    def __init__(
        self,
        path: Path,
        options: ModelOptions = MODEL_DEFAULTS,
        *,
        progress: Progress = no_progress,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Load `path`. `stop` is called while it loads and cancels by returning true.

        Raises RuntimeFailed, EngineMissing, UsageError (no such device), NetworkError (a worker
        that does not answer) or Interrupted.
        """
        self.path = path
        self._c = load_llama()
        LOG.clear()
        params, referenced = _model_params(self._c, options)

        watched: list[bool] = []  # not empty: the connections to workers are being watched

        @self._c.llama_progress_callback  # type: ignore[untyped-decorator,unused-ignore]
        def on_progress(done: float, _data: ctypes.c_void_p) -> bool:
            progress(int(done * 1000), 1000, "load")  # `done` is a share, 0 to 1
            if options.workers and not watched:  # they are connected now
                watched.append(True)
                watch_workers()
            return not stop()

        params.progress_callback = on_progress
        self._handle = self._c.llama_model_load_from_file(os.fsencode(path), params)
        del referenced  # what `params` points to is not needed any more
        if not self._handle:
            if stop():
                raise Interrupted("")  # whoever stopped it needs no message
            raise engine_failure(
                f"llama.cpp cannot load {path}", hint=f"g4 doctor {shell_word(path)}"
            )
        self.gpu_bytes = LOG.sum_buffers("model", on_gpu=True)
        self.vocab = self._c.llama_model_get_vocab(self._handle)
        self.n_vocab: int = self._c.llama_vocab_n_tokens(self.vocab)
        self.n_ctx_train: int = self._c.llama_model_n_ctx_train(self._handle)
        self.n_swa: int = self._c.llama_model_n_swa(self._handle)
        self._piece_lock = threading.Lock()  # of the buffer
        self._piece_buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        self.piece = lru_cache(_KNOWN_TOKENS)(self._read_piece)
        self.is_end = lru_cache(_KNOWN_TOKENS)(self._read_is_end)

    @property
    def handle(self) -> Any:
        """Return llama.cpp's pointer. Raises RuntimeFailed once closed."""
        if not self._handle:
            raise RuntimeFailed("the model is closed")
        return self._handle

    @property
    def size_bytes(self) -> int:
        """Return the size of all tensors."""
        return int(self._c.llama_model_size(self.handle))

    @property
    def n_params(self) -> int:
        """Return the number of parameters."""
        return int(self._c.llama_model_n_params(self.handle))

    @property
    def has_experts(self) -> bool:
        """Return whether the network is one of Gemma 4's mixtures of experts."""
        return self.read_key("gemma4.expert_count") not in (None, "0")

    @property
    def description(self) -> str:
        """Return architecture, size and type as llama-bench prints them: 'gemma4 E2B Q4_0'.

        For a size that llama.cpp has no name for ("?B"), the parameters are counted.
        """
        buffer = ctypes.create_string_buffer(256)
        self._c.llama_model_desc(self.handle, buffer, len(buffer))
        text = buffer.value.decode("utf-8", "replace")
        return text.replace("?B", _format_count(self.n_params), 1)

    def _read_is_end(self, token: int) -> bool:
        """Return whether `token` ends an answer (llama.cpp: EOG)."""
        return bool(self._c.llama_vocab_is_eog(self.vocab, token))

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """Return all tokens that end an answer."""
        return tuple(filter(self._read_is_end, range(self.n_vocab)))

    @cached_property
    def digits(self) -> Mapping[int, int]:
        """Return the values of the digits that are tokens, by token."""
        digits = ((value, self.tokenize(str(value), control=False)) for value in range(10))
        return {tokens[0]: value for value, tokens in digits if len(tokens) == 1}

    @cached_property
    def close_thought(self) -> tuple[int, ...]:
        """Return the tokens that Gemma 4 writes at the end of a thought."""
        return tuple(self.tokenize("\n<channel|>", control=True))

    @property
    def bos(self) -> int:
        """Return the BOS token, or -1 if the vocabulary has none."""
        return int(self._c.llama_vocab_bos(self.vocab))

    @property
    def suppressed(self) -> tuple[int, ...]:
        """Return the tokens that the file forbids in answers (tokenizer.ggml.suppress_tokens).

        Of Gemma 4 only the 12B has any: <image|> and <audio|>, which end an image or sound.
        """
        count = ctypes.c_int32()
        tokens = self._c.llama_vocab_get_suppress_tokens(self.vocab, ctypes.byref(count))
        return tuple(tokens[i] for i in range(count.value)) if tokens else ()

    def tokenize(self, text: str, *, control: bool) -> list[int]:
        """Return the tokens of `text`, without a BOS.

        `control`: '<|turn>' in the text becomes the control token, and not the tokens of its
        letters.
        """
        data = text.encode("utf-8", "replace")
        if not data:
            return []
        capacity = len(data) + 1  # one token per byte at most
        tokens = (self._c.llama_token * capacity)()
        count = self._c.llama_tokenize(
            self.vocab, data, len(data), tokens, capacity, False, control
        )
        if count < 0:
            raise RuntimeFailed(f"llama.cpp cannot tokenize {len(data)} bytes of text")
        return list(tokens[:count])

    def _read_piece(self, token: int) -> bytes:
        """Return the bytes of `token`; a control token gives its name, '<|turn>'."""
        with self._piece_lock:
            size = self._c.llama_token_to_piece(
                self.vocab, token, self._piece_buffer, len(self._piece_buffer), 0, True
            )
            if size < 0:
                self._piece_buffer = ctypes.create_string_buffer(-size)
                size = self._c.llama_token_to_piece(
                    self.vocab, token, self._piece_buffer, -size, 0, True
                )
            return self._piece_buffer.raw[:size]

    @cached_property
    def longest_piece(self) -> int:
        """Return how many bytes of text a token stands for at most; the first time takes 0.2 s."""
        return max(len(self._read_piece(token)) for token in range(self.n_vocab))

    def read_key(self, key: str) -> str | None:
        """Return the value of a scalar key of the file as text, or None if it has no such key."""
        size = 255
        for _ in range(2):  # the second time with room for the whole value
            buffer = ctypes.create_string_buffer(size + 1)
            size = self._c.llama_model_meta_val_str(self.handle, key.encode(), buffer, size + 1)
            if size < len(buffer):
                break
        return buffer.value.decode("utf-8", "replace") if size >= 0 else None

    @property
    def chat_template(self) -> str | None:
        """Return the file's Jinja template, or None."""
        text = self._c.llama_model_chat_template(self.handle, None)
        return text.decode("utf-8", "replace") if text else None

    def close(self) -> None:
        """Free the model. Nothing is asked of it afterwards, its vocabulary included."""
        if self._handle:
            self._c.llama_model_free(self._handle)
            self._handle = None


def _model_params(c: Any, options: ModelOptions) -> tuple[Any, Sequence[Any]]:
    """Return llama_model_params and the objects that must outlive the load."""
    params = c.llama_model_default_params()
    params.load_mode = _LOAD_MMAP if options.mmap else _LOAD_NONE
    params.lazy_mode = _LAZY[options.lazy_ple]
    params.use_extra_bufts = options.use_extra_bufts
    params.vocab_only = options.vocab_only
    referenced: list[Any] = []
    devices = list(register_workers(options.workers))
    params.n_gpu_layers = options.n_gpu_layers if can_offload() else 0
    if options.device is not None:
        devices.append(_find_device(options.device))
        array = (ctypes.c_void_p * (len(devices) + 1))(*devices, None)
        params.devices = ctypes.addressof(array)
        referenced.append(array)
    if options.tensor_split:
        split = (ctypes.c_float * c.llama_max_devices())(*options.tensor_split)
        params.tensor_split = split
        referenced.append(split)
    if options.n_cpu_moe:
        referenced.append(keep_experts_on_cpu(params, options.n_cpu_moe))
    return params, referenced


def _format_count(n_params: int) -> str:
    return f"{n_params / 1e9:.2f}B" if n_params >= 1e9 else f"{n_params / 1e6:.2f}M"


def _find_device(name: str) -> int:
    handle = load_ggml().ggml_backend_dev_by_name(os.fsencode(name))
    if not handle:
        raise make_device_error(name)
    return int(handle)
