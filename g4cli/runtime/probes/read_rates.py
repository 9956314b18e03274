"""How fast the devices of this machine read weights: measured once, and remembered.

The rate, in bytes per second, is that of ggml's product of a matrix and a vector, per type of
weights: types that take much work to decode are read more slowly than memory allows. It is measured
again when the CPU, the GPU or the installed llama.cpp changes. What `g4 bench` measures is kept
beside it, to tell how far estimates are off. Other programs can only slow a measurement down: of
two rates the faster is kept, and a device that was measured while the machine was busy is measured
again the next time that rates are needed and the machine is not busy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from g4cli.core.child import parse_json_lines, run_child
from g4cli.core.paths import cache_dir
from g4cli.core.records import read_record, write_record
from g4cli.core.units import GIB, MIB
from g4cli.host import describe_gpu_setup, read_host
from g4cli.runtime.probes.kernels import RunChild, machine_key, probe_kernels

MEASURED_TYPES: Final = ("Q4_0", "Q4_K", "Q6_K", "Q8_0", "BF16")

_TIMEOUT_S: Final = 60  # a choice: all types of a device take a few seconds
# A choice: from this load on (runnable processes for each processor, over the last minute) other
# programs slow a measurement down.
_BUSY_SHARE: Final = 0.5
_MAX_BENCHES: Final = 20  # a choice: older measurements of `g4 bench` are dropped
# Larger than the caches of large servers, and smaller than the free memory of small computers.
_MATRIX_BYTES: Final = GIB
_MIN_MATRIX_BYTES: Final = 64 * MIB


@dataclass(frozen=True, slots=True)
class MeasuredSpeed:
    """What `g4 bench` measured: tokens per second in an empty context, on all cores.

    `read_bytes` are those of estimate.decode.count_read_bytes, with keys such as "host Q4_0".
    """

    model: str
    tokens_per_s: float
    read_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """When the rates of a device were measured: ISO 8601, to the minute, with the local offset.

    `was_busy`: other programs used the machine then, so that the rates may be too low.
    """

    at: str
    was_busy: bool


def find_read_rates(
    devices: Sequence[str],
    *,
    measure: Literal["never", "missing", "all"] = "missing",
    run: RunChild = run_child,
) -> dict[tuple[str, str], float]:
    """Return bytes per second by device ("CPU" or a GPU's name in ggml) and type.

    `measure` says which of `devices` are measured now; "missing": those of list_unmeasured. The
    rates of the others are those of the record. A device that cannot be measured is left out.
    Raises EngineMissing.
    """
    key = _setup_key()
    record = _read_record(key)
    rates: dict[str, dict[str, float]] = record["rates"]
    chosen = {"never": (), "all": devices, "missing": list_unmeasured(devices)}
    for name in chosen[measure]:
        busy = is_busy()  # asked first: the measurement itself uses all processors
        before, now = rates.get(name, {}), _measure_device(name, run)
        # A child that died or took too long has measured some types, or none.
        rates[name] = before | {k: max(rate, before.get(k, 0.0)) for k, rate in now.items()}
        if now and (not busy or name not in record["measured"]):
            moment = datetime.now().astimezone().isoformat(timespec="minutes")
            record["measured"][name] = asdict(Measured(moment, busy))
    if chosen[measure]:
        write_record(_record_path(), {**record, "rates": rates})
    return {(name, kind): rate for name in devices for kind, rate in rates.get(name, {}).items()}


def list_unmeasured(devices: Sequence[str]) -> list[str]:
    """Return those of `devices` that were never measured, or on a busy machine that is idle now."""
    record, busy = _read_record(_setup_key()), is_busy()
    return [
        name
        for name in devices
        if name not in record["rates"]
        or (not busy and bool(record["measured"].get(name, {}).get("was_busy")))
    ]


def find_measured(device: str) -> Measured | None:
    """Return when the rates of `device` were measured, None if that is not known."""
    try:
        return Measured(**_read_record(_setup_key())["measured"][device])
    except (KeyError, TypeError):
        return None


def is_busy() -> bool:
    """Return whether other programs use so much of the processors that they slow a measurement."""
    try:
        return os.getloadavg()[0] > _BUSY_SHARE * (os.cpu_count() or 1)
    except (OSError, AttributeError):  # not on every system
        return False


def list_measured_speeds() -> tuple[MeasuredSpeed, ...]:
    """Return what `g4 bench` measured on this machine, the newest last."""
    try:
        return tuple(MeasuredSpeed(**row) for row in _read_record(_setup_key())["benches"])
    except TypeError:
        return ()


def record_measured_speed(speed: MeasuredSpeed) -> None:
    """Keep `speed`, instead of the one that was measured of the same model before."""
    key = _setup_key()
    record = _read_record(key)
    others = [row for row in record["benches"] if row.get("model") != speed.model]
    benches = [*others, asdict(speed)][-_MAX_BENCHES:]
    write_record(_record_path(), {**record, "benches": benches})


def _measure_device(name: str, run: RunChild) -> dict[str, float]:
    layout = "extra" if name == "CPU" and probe_kernels(run=run).use_extra_bufts else "plain"
    n_bytes = _MATRIX_BYTES
    if name == "CPU":
        n_bytes = min(n_bytes, max(_MIN_MATRIX_BYTES, read_host().available_bytes // 4))
    args = [name, str(n_bytes), layout, *MEASURED_TYPES]
    seen, _ = run("g4cli.runtime.probes.read_rate_child", args, timeout_s=_TIMEOUT_S)
    return {row["type"]: float(row["bytes_per_s"]) for row in parse_json_lines(seen.stdout)}


def _record_path() -> Path:
    return cache_dir() / "speed.json"


def _read_record(key: str) -> dict[str, Any]:
    """Return the record of this machine and library, or an empty one."""
    record = read_record(_record_path())
    # A record that is absent or damaged raises one of these.
    with suppress(LookupError, TypeError, AttributeError):
        rates, measured, benches = record["rates"], record.get("measured", {}), record["benches"]
        if (
            record["key"] == key
            and all(rate > 0 for kinds in rates.values() for rate in kinds.values())
            and all(isinstance(row, dict) for row in (*measured.values(), *benches))
        ):
            return {"key": key, "rates": rates, "measured": measured, "benches": benches}
    return {"key": key, "rates": {}, "measured": {}, "benches": []}


def _setup_key() -> str:
    return "|".join((machine_key(), *describe_gpu_setup()))
