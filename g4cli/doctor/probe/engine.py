"""Ask llama.cpp about itself: its build, its backends, and whether its kernels work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from g4cli.doctor.probe.child import ask_child

_TIMEOUT_S: Final = 120.0  # a choice: kernels of all types are tried, which takes seconds


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What llama.cpp says about itself; a part is empty if it failed, and `error` says why.

    The parts are the events of these names, as `runtime.probes.doctor_child` writes them: versions
    and CPU features; how each matrix product went; backends and devices.
    """

    library: dict[str, Any] = field(default_factory=dict)
    kernels: dict[str, Any] = field(default_factory=dict)
    backends: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def ask_engine() -> EngineFacts:
    """Return what llama.cpp says about itself, and which of its matrix products work."""
    answer = ask_child({"task": "machine"}, _TIMEOUT_S)
    library, kernels = answer.find_event("library"), answer.find_event("kernels")
    error = answer.failure if library is None or kernels is None else ""
    return EngineFacts(library or {}, kernels or {}, answer.find_event("backends") or {}, error)


def ask_backends() -> dict[str, Any]:
    """Return the child's event `backends`, or {} if llama.cpp does not start."""
    return ask_child({"task": "backends"}).find_event("backends") or {}
