"""Estimate how many tokens per second a model decodes on this machine, and tell the error of it.

Decoding reads each weight once a token, so that the time of a token is the bytes read of each type,
over the rate at which the device reads that type (runtime/probes/read_rates.py). What is left out:
attention to a long context, the work between the matrices, and the copies between devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from g4cli.core.ggml import ggml_type
from g4cli.core.gguf import read_model_header
from g4cli.core.shape import shape_of
from g4cli.core.units import MIB
from g4cli.estimate import HOST, Options
from g4cli.estimate.decode import count_read_bytes
from g4cli.host import engine_version
from g4cli.runtime.probes.read_rates import (
    Measured,
    MeasuredSpeed,
    find_measured,
    find_read_rates,
    list_measured_speeds,
    list_unmeasured,
    record_measured_speed,
)
from g4cli.store.models import find_model_file

# A choice: the weights of smaller models may be in the processor's cache, which holds less.
_MIN_BYTES: Final = 512 * MIB

CPU: Final = "CPU"
"""The name of the host's processor in ggml."""


@dataclass(frozen=True, slots=True)
class SpeedCheck:
    """A model that `g4 bench` measured on this machine, and the estimate: both in tokens/s."""

    model: str
    measured: float
    estimated: float

    @property
    def error(self) -> float:
        """The estimate's error: 0.1 if it is 10 % too high."""
        return self.estimated / self.measured - 1


@dataclass(frozen=True, slots=True)
class DecodeSpeeds:
    """The rates of this machine, by device and type in bytes per second, and the checks of them.

    Without rates (another machine is described, or llama.cpp is missing) no speed is estimated.
    `measured` says when those of the CPU were measured, if that is known.
    """

    rates: Mapping[tuple[str, str], float]
    checks: tuple[SpeedCheck, ...] = ()
    measured: Measured | None = None

    def estimate_tokens_per_s(self, read_bytes: Mapping[tuple[str, str], int]) -> float | None:
        """Return the tokens per second if a token reads `read_bytes` (count_read_bytes).

        None if the rate of a device is not known, or if nothing is read.
        """
        seconds = 0.0
        for (device, kind), n_bytes in read_bytes.items():
            rate = self._find_rate(CPU if device == HOST else device, kind)
            if rate is None:
                return None
            seconds += n_bytes / rate
        return 1 / seconds if seconds else None

    def _find_rate(self, device: str, kind: str) -> float | None:
        """Return the rate of a type, or of the measured type whose bits per weight are closest.

        None if the device was not measured.
        """
        bits = ggml_type(kind).bits_per_weight
        known = (  # of types with equal bits, the type itself comes first
            (abs(ggml_type(name).bits_per_weight - bits), name != kind, rate)
            for (where, name), rate in self.rates.items()
            if where == device
        )
        _, _, rate = min(known, default=(0.0, False, None))
        return rate


def needs_measuring(gpus: Sequence[str]) -> bool:
    """Return whether read_decode_speeds would measure: never without llama.cpp."""
    return bool(engine_version() and list_unmeasured((CPU, *gpus)))


def read_decode_speeds(gpus: Sequence[str], *, measure: Literal["missing", "all"]) -> DecodeSpeeds:
    """Return the rates of this machine; `measure` as in find_read_rates."""
    if not engine_version():
        return DecodeSpeeds({})
    speeds = DecodeSpeeds(find_read_rates((CPU, *gpus), measure=measure))
    checks = []
    for bench in list_measured_speeds():
        read = {}
        for key, n_bytes in bench.read_bytes.items():
            device, kind = key.rsplit(" ", 1)
            read[device, kind] = n_bytes
        estimated = speeds.estimate_tokens_per_s(read)
        if estimated and bench.tokens_per_s > 0:
            checks.append(SpeedCheck(bench.model, bench.tokens_per_s, estimated))
    return DecodeSpeeds(speeds.rates, tuple(checks), find_measured(CPU))


def remember_bench(word: str, path: Path, tokens_per_s: float | None) -> None:
    """Keep what `g4 bench` measured of the model `word`, all in host memory, for `g4 fit`.

    `path` is its file. Small models are left out: they are not read from memory for each token.
    """
    header = read_model_header(path)
    tensors = tuple(header.tensors.values())
    if not tokens_per_s or sum(t.nbytes for t in tensors) < _MIN_BYTES:
        return
    shape = shape_of(header)
    read = count_read_bytes(shape, tensors, Options(shape.n_ctx_train))
    # JSON has no pairs as keys: "host Q4_0".
    by_key = {f"{device} {kind}": n_bytes for (device, kind), n_bytes in read.items()}
    find_read_rates((CPU,), measure="all")  # at the same time, on the same idle or busy machine
    entry = find_model_file(word).entry
    record_measured_speed(MeasuredSpeed(entry.label if entry else path.name, tokens_per_s, by_key))
