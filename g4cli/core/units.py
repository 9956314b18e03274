"""Bytes, rates, durations and counts as text: binary units, three significant digits."""

from __future__ import annotations

import math
import re
from typing import Final

from g4cli.core.errors import UsageError

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3
MORE_LAYERS: Final = 999
"""More than any model has: "all layers" where a number is needed."""

_UNITS: Final = (("TiB", 1024**4), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB))
# The digits are bounded: Python turns no text of thousands of them into an integer.
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)(i?b)?\s*", re.IGNORECASE)
_COUNT = re.compile(r"\s*(\d{1,18})\s*([kK]?)\s*")
_NUMBER: Final = r"(?:\d+\.?\d*|\.\d+)"
_DURATION = re.compile(rf"([-+]?)(?=[\d.])((?:{_NUMBER}(?:ns|us|µs|ms|s|m|h))*{_NUMBER}?)")
_DURATION_PART = re.compile(rf"({_NUMBER})(ns|us|µs|ms|s|m|h|)")
_MAX_DURATION_CHARS: Final = 40
_SECONDS: Final = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip
LONGEST_S: Final = 100 * 365 * 86_400.0
"""A hundred years, the longest duration: times that are much later are no dates in Python."""
_SINGULAR_VERBS: Final = {
    "are": "is", "were": "was", "have": "has", "contain": "contains", "follow": "follows",
    "repeat": "repeats",
}  # fmt: skip
_FACTOR: Final = {"": 1, **{unit[0].lower(): factor for unit, factor in _UNITS}}


def size_text(n_bytes: int | float) -> str:
    """Return a size in the largest fitting binary unit: 2841481184 -> '2.65 GiB'."""
    for unit, factor in _UNITS:
        # 1023.995 KiB would print as '1024 KiB': round before choosing the unit.
        if abs(n_bytes) >= factor * 0.9995:
            value = n_bytes / factor
            decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
            return f"{value:.{decimals}f} {unit}"
    return f"{n_bytes:.0f} B"


def exact_size_text(n_bytes: int) -> str:
    """Return a size as parse_size reads it back, in the largest unit that divides it: '8G'."""
    for unit, factor in _UNITS:
        if n_bytes and n_bytes % factor == 0:
            return f"{n_bytes // factor}{unit[0]}"
    return str(n_bytes)


def measured_text(value: float, error: float) -> str:
    """Return a measured value with its standard error, to three digits of the error.

    (5.12341, 0.01234) -> '5.1234 ± 0.0123'.
    """
    digits = min(6, max(0, 2 - math.floor(math.log10(error)))) if error > 0 else 6
    return f"{value:,.{digits}f} ± {error:,.{digits}f}"


def rate_text(bytes_per_second: float) -> str:
    """Return a rate: 12582912 -> '12.0 MiB/s'."""
    return f"{size_text(bytes_per_second)}/s"


def count_text(count: int, thing: str, verb: str = "", *, of: int = 0) -> str:
    """Return a number with what it counts: '1 tensor', '1,200 tensors'.

    `verb` is a verb that follows, in its plural form; `of` is the number of all: '1 byte is',
    '3 of 42 tensors contain'.
    """
    everything = f" of {of:,}" if of else ""
    ending = "" if (of or count) == 1 else "s"
    verb = f" {_SINGULAR_VERBS[verb] if count == 1 else verb}" if verb else ""
    return f"{count:,}{everything} {thing}{ending}{verb}"


def duration_text(seconds: float) -> str:
    """Return a duration for people: 4.21 -> '4.2 s', 75 -> '1 min 15 s'."""
    # As above, 0.9996 s would print as '1000 ms', and 59.96 s as '60.0 s'.
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def parse_duration(text: str) -> float:
    """Return seconds from '90', '90s', '1h30m', '1.5 h' or '-1'; at most LONGEST_S.

    A sign, then numbers with their units (ns, us, ms, s, m, h), which are added up; the last may
    lack its unit and is in seconds then. Capital letters and spaces are accepted. So this reads all
    that Go's time.ParseDuration reads, and with it Ollama, and more. Raises UsageError.
    """
    plain = "".join(text.lower().split())
    # Long texts are refused first: to look for the parts takes time in the square of the length.
    match = _DURATION.fullmatch(plain) if len(plain) <= _MAX_DURATION_CHARS else None
    if match is None:
        raise UsageError(f"not a duration: {text!r:.60}", hint="write it as 90s, 10m or 1h30m")
    parts = _DURATION_PART.findall(match[2])
    seconds = min(sum(float(number) * _SECONDS[unit] for number, unit in parts), LONGEST_S)
    return -seconds if match[1] == "-" else seconds


def parse_size(text: str) -> int:
    """Return bytes from '8G', '512MiB' or '1024' (all units binary). Raises UsageError."""
    match = _SIZE.fullmatch(text)
    if not match:
        hint = "write it as 8G, 512M or a number of bytes"
        raise UsageError(f"not a size: {text!r:.60}", hint=hint)
    return int(float(match[1]) * _FACTOR[match[2].lower()])


def parse_gpu_layers(text: str) -> int:
    """Return the value of --gpu-layers as a number: -1 for "auto", MORE_LAYERS for "all".

    Raises UsageError.
    """
    if text in ("auto", "all"):
        return -1 if text == "auto" else MORE_LAYERS
    if not (text.isdecimal() and len(text) < 10):
        raise UsageError(f"not a number of layers: {text!r:.60}", hint="--gpu-layers auto")
    return int(text)


def parse_count(text: str) -> int:
    """Return a token count from '4096', '32k' or '256K' (k = 1024). Raises UsageError."""
    match = _COUNT.fullmatch(text)
    if not match:
        raise UsageError(f"not a number of tokens: {text!r:.60}", hint="write it as 4096 or 32k")
    return int(match[1]) * (KIB if match[2] else 1)
