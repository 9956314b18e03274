"""Embeddings of images and sounds that were encoded before: they come back from the disk.

Encoding an image takes seconds on a CPU, reading its embeddings milliseconds. They lie in the
folder of saved states, in files of the same form and under the same limit, in a namespace of their
own: that of the model, its encoder, and what changes the numbers that the encoder computes. Within
it they are named by the content of the file that they are of, never by its path.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

from g4cli.runtime.engine.options import MediaOptions
from g4cli.store.states.files import DamagedStateError
from g4cli.store.states.folder import About, StateName
from g4cli.store.states.keys import make_namespace
from g4cli.store.states.rows import Tables

if TYPE_CHECKING:
    from g4cli.runtime.engine.state_cache import StateCache

_VERSION: Final = 1  # of what is saved: a change makes older files foreign


class SavedEmbeddings:
    """The embeddings on disk of one encoder and its options."""

    def __init__(self, states: StateCache, encoder_id: str, options: MediaOptions) -> None:
        """`encoder_id` is the same for the same encoder file alone (`identify_model`)."""
        self._states = states
        self._about = About(states.options.name, str(states.model_path), kv_type="", holds="media")
        self.namespace = make_namespace(
            ["media", _VERSION, states.options.model_id, encoder_id, options.image_tokens,
             options.use_gpu, *states.environment]
        )  # fmt: skip

    def read(self, digest: bytes, n_tokens: int, n_values: int) -> Any:
        """Return the `n_values` floats of a run of `n_tokens` as a C array; None: not there.

        `digest` (16 bytes) says what the run shows.
        """
        if not self._states.options.limit_bytes:
            return None
        embeddings = (ctypes.c_float * n_values)()

        def allocate(n_bytes: int) -> memoryview:
            if n_bytes != ctypes.sizeof(embeddings):
                raise DamagedStateError("it has another number of values")
            return memoryview(embeddings).cast("B")

        name = StateName(n_tokens, digest.hex())
        found = self._states.folder.read_state(self.namespace, name, allocate)
        return None if found is None else embeddings

    def write_later(self, digest: bytes, n_tokens: int, embeddings: Any) -> None:
        """Write the embeddings of a run in the background, unless much else waits for that."""
        if not self._states.options.limit_bytes or not self._states.has_room:
            return
        name = StateName(n_tokens, digest.hex())
        data = memoryview(embeddings).cast("B")

        def write() -> None:
            folder = self._states.folder
            folder.write_state(self.namespace, self._about, name, data, Tables(len(data)))

        self._states.submit(write)
