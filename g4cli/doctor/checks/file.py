"""Is it a GGUF, is it whole, is it built as the format demands?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from g4cli.core.gguf_cursor import MAGIC
from g4cli.core.units import size_text
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import FileFacts

AGAIN: Final = "download it again: g4 pull MODEL, or the same command that fetched it"


def is_gguf(facts: FileFacts) -> bool:
    """Return whether the file begins with the magic of a GGUF."""
    return facts.head.startswith(MAGIC)


def check_magic(facts: FileFacts) -> Outcome:
    """Name what the file is if it is no GGUF."""
    if is_gguf(facts):
        return ok("the file starts with GGUF")
    what = facts.fault.what if facts.fault else "not a GGUF"
    return fail(what, (facts.fault.hint if facts.fault else None) or AGAIN, cause="file-damaged")


def check_header(facts: FileFacts) -> Outcome:
    """Report the first place where the header breaks the format."""
    if not is_gguf(facts):
        return skipped("no GGUF")
    if facts.fault is None:
        assert facts.header is not None
        count = len(facts.header.tensors)
        return ok(f"version {facts.header.version}, {len(facts.header.keys)} keys, {count} tensors")
    fault = facts.fault
    place = f" at byte {fault.offset:,}" if fault.offset is not None else ""
    field = f" ({fault.field})" if fault.field else ""
    return fail(f"{fault.what}{place}{field}", AGAIN, cause="file-damaged")


def check_size(facts: FileFacts) -> Outcome:
    """Compare the size of the file with the end of its last tensor."""
    header = facts.header
    if header is None:
        return skipped("the header cannot be read")
    missing = header.data_end - facts.size
    if missing > 0:
        cut = [
            t.name for t in header.tensors.values() if header.file_offset(t) + t.nbytes > facts.size
        ]
        return fail(
            f"cut short: the last {missing:,} bytes ({size_text(missing)} of {size_text(header.data_end)}) "
            f"are missing; {len(cut)} of {len(header.tensors)} tensors are not whole, from {cut[0]} on",
            f"resume the download, or fetch bytes {facts.size}-{header.data_end - 1}: "
            "curl -L -C - -o FILE URL",
            cause="file-damaged",
            detail=tuple(cut),
        )
    if header.trailing_bytes > 0:
        return fail(
            f"{header.trailing_bytes:,} bytes follow the last tensor: glued parts, or an edited header; "
            "llama.cpp ignores them",
            AGAIN,
            cause="file-damaged",
            confidence="medium",
        )
    return ok(f"whole: {facts.size:,} bytes, as the header says")


CHECKS: Final = (
    Check("file.magic", check_magic),
    Check("file.header", check_header),
    Check("file.size", check_size),
)
