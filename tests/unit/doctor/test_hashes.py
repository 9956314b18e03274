"""Which sha256 is recorded for a file. The forms of lines are those of sha256sum and shasum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from g4cli.doctor.facts.hashes import read_hashes

SHA = hashlib.sha256(b"content").hexdigest()
OTHER, THIRD = "0" * 64, "1" * 64


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        (SHA, SHA),
        (SHA.upper(), SHA),
        (f"{SHA}  the name before.gguf\n", SHA),
        (f"{OTHER}  other.gguf\n{SHA}  my model.gguf\n", SHA),
        (f"{OTHER}  not my model.gguf\r\n{SHA} *./q4/my model.gguf\r\n", SHA),
        (f"SHA256 (other.gguf) = {OTHER}\nSHA256 (my model.gguf) = {SHA}\n", SHA),
        (f"{OTHER}  other.gguf\n{THIRD}  third.gguf\n", None),
        ("no hash", None),
    ],
)
def test_the_line_of_the_file_counts(text: str, recorded: str | None, tmp_path: Path) -> None:
    path = tmp_path / "my model.gguf"
    path.write_bytes(b"content")
    (tmp_path / "my model.gguf.sha256").write_bytes(text.encode())
    hashes = read_hashes(path, deep=False)
    assert (hashes.recorded if hashes else None) == recorded


def test_a_name_that_has_no_room_for_a_suffix_has_no_record(tmp_path: Path) -> None:
    path = tmp_path / ("m" * 250)  # file systems take 255 bytes
    path.write_bytes(b"content")
    assert read_hashes(path, deep=False) is None
