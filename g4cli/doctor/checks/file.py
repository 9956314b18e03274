"""Checks of the file format: magic, header, size, recorded hash."""

from __future__ import annotations

from typing import Final

from g4cli.core.units import count_text, size_text
from g4cli.doctor.checks.advice import DOWNLOAD_AGAIN, EXAMINE_DEEP
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped


def check_magic(facts: FileFacts) -> Outcome:
    """Fail for another kind of file, and say which."""
    if facts.has_magic:
        return ok("the file starts with GGUF")
    assert facts.fault is not None  # reading the header failed at the first bytes
    return fail(facts.fault.what, facts.fault.hint or DOWNLOAD_AGAIN, cause="file-damaged")


def check_header(facts: FileFacts) -> Outcome:
    """Fail at the first violation of the format."""
    if not facts.has_magic:
        return skipped("the file is not a GGUF")
    if facts.fault is None:
        assert facts.header is not None
        n_keys = count_text(len(facts.header.keys), "key")
        n_tensors = count_text(len(facts.header.tensors), "tensor")
        return ok(f"version {facts.header.version}, {n_keys}, {n_tensors}")
    fault = facts.fault
    position = f" at byte {fault.offset:,}" if fault.offset is not None else ""
    field = f" ({fault.field})" if fault.field else ""
    return fail(f"{fault.what}{position}{field}", DOWNLOAD_AGAIN, cause="file-damaged")


def check_size(facts: FileFacts) -> Outcome:
    """Compare the size of the file with the end of its last tensor."""
    header = facts.header
    if header is None:
        return skipped("the header cannot be read")
    missing = header.data_end - facts.size
    if missing > 0:
        incomplete = [
            t.name for t in header.tensors.values() if header.file_offset(t) + t.nbytes > facts.size
        ]
        return fail(
            f"truncated: the last {count_text(missing, 'byte', 'are')} missing "
            f"({size_text(missing)} of {size_text(header.data_end)}); "
            f"{count_text(len(incomplete), 'tensor', 'are', of=len(header.tensors))} incomplete, "
            f"from {incomplete[0]} on",
            f"resume the download, or download bytes {facts.size}-{header.data_end - 1}: "
            "curl -L -C - -o FILE URL",
            cause="file-damaged",
            detail=tuple(incomplete),
        )
    if header.trailing_bytes > 0:
        return fail(
            f"{count_text(header.trailing_bytes, 'byte', 'follow')} the last tensor: concatenated "
            "parts, or an edited header; llama.cpp ignores what follows",
            DOWNLOAD_AGAIN,
            cause="file-damaged",
            confidence="medium",
        )
    return ok(f"complete: {facts.size:,} bytes, as the header says")


def check_hash(facts: FileFacts) -> Outcome:
    """Compare the file with the recorded sha256."""
    hashes = facts.hashes
    if hashes is None:
        return skipped("no hash is recorded for the file")
    if not hashes.actual:
        return skipped(
            f"a hash is recorded ({hashes.source}); computing it takes --deep", EXAMINE_DEEP
        )
    if hashes.actual != hashes.recorded:
        return fail(
            f"sha256 is {hashes.actual[:12]}..., {hashes.source} says {hashes.recorded[:12]}...: "
            "these are not the bytes that were published",
            "download it again, or remove the recorded hash if you changed the file yourself",
            cause="file-damaged",
            confidence="high",
        )
    return ok(f"sha256 {hashes.actual[:12]}... equals {hashes.source}")


CHECKS: Final = (
    Check("file.magic", check_magic),
    Check("file.header", check_header),
    Check("file.size", check_size),
    Check("file.hash", check_hash),
)
