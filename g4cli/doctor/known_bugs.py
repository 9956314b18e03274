"""Known bugs of released llama.cpp builds that make a sound file answer nonsense.

Each row says how to recognize the bug before the file runs: the tensor types and the builds that it
concerns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class EngineBug:
    """A bug of some builds of llama.cpp.

    It shows (`symptom`) in files with tensors of `tensor_types`, run by a build for `backend` that
    was compiled with `release` of it. `workaround` says what to use instead.
    """

    symptom: str
    tensor_types: frozenset[str]
    backend: str
    release: str
    workaround: str
    source: str


KNOWN_BUGS: Final = (
    EngineBug(
        symptom="gibberish",
        tensor_types=frozenset(("IQ1_S", "IQ2_S", "IQ3_S", "IQ3_XXS")),
        backend="CUDA",
        release="13.2",
        workaround="use a build with CUDA 13.1, 13.3 or later",
        # NVIDIA's compiler miscompiles __byte_perm.
        source="ggml-org/llama.cpp issue 28581, pull request 28784",
    ),
)


def find_bugs(tensor_types: set[str]) -> tuple[EngineBug, ...]:
    """Return the bugs that concern a file with tensors of these types."""
    return tuple(bug for bug in KNOWN_BUGS if bug.tensor_types & tensor_types)


def release_of(backend: str, backends: Mapping[str, Any]) -> str | None:
    """Return the release of a backend of the installed llama.cpp.

    It is '' if unknown, None if the backend is absent. `backends` is the probe's event of that
    name: {"backends": {name: ...}, "cuda": {"runtime": "13.1"}, ...}.
    """
    if backend not in backends.get("backends", {}):
        return None
    return str(backends.get(backend.lower(), {}).get("runtime", ""))
