"""g4 doctor --fix and --report: what metadata can mend comes out byte for byte, and nothing private leaks."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest
from damage import KINDS
from tiny_file import build_tiny

from g4cli.core.errors import UsageError
from g4cli.doctor.bug_report import bug_report, private
from g4cli.doctor.diagnose import judge
from g4cli.doctor.facts.file_facts import gather
from g4cli.doctor.repair import Repair, repair
from g4cli.doctor.report import Report


@pytest.fixture(scope="module")
def good() -> bytes:
    return build_tiny()


def mend(folder: Path, data: bytes) -> tuple[Report, Repair, Path]:
    source, target = folder / "broken.gguf", folder / "mended.gguf"
    source.write_bytes(data)
    report = judge(gather(source, talk=False))
    return report, repair(report, source, target), target


@pytest.mark.parametrize(
    "kind",
    ["control-normal", "bytes-normal", "rope-base-1e4", "rope-base-swa-1e6", "epsilon-1e-5", "softcap-0",
     "rope-table-ones", "eos-107", "bos-1", "space-prefix", "tokenizer-llama", "tokenizer-gpt2",
     "template-chatml", "template-gemma3", "template-poison", "template-escape", "architecture-gemma3",
     "layers-9", "width-512", "shared-kv-0", "window-1024", "pattern-all-sliding", "rope-dims"],
)  # fmt: skip
def test_what_metadata_can_mend_is_the_good_file_again(
    kind: str, good: bytes, tmp_path: Path
) -> None:
    _, done, target = mend(tmp_path, KINDS[kind](good))
    assert done.done
    assert target.read_bytes() == good


@pytest.mark.parametrize(
    "kind",
    ["window-missing", "head-width-missing", "ple-missing", "bos-missing", "rope-base-missing", "rope-scaled",
     "template-missing", "rope-table-missing"],
)  # fmt: skip
def test_what_was_missing_is_healthy_again(kind: str, good: bytes, tmp_path: Path) -> None:
    report, done, target = mend(tmp_path, KINDS[kind](good))
    assert report.verdict != "healthy"
    assert done.done
    assert judge(gather(target, talk=False)).exit_code == 0


@pytest.mark.parametrize(
    "kind", ["truncate", "zero-hole", "random-page", "v-missing", "merges-one"]
)
def test_what_no_metadata_mends_is_left_alone(kind: str, good: bytes, tmp_path: Path) -> None:
    _, done, target = mend(tmp_path, KINDS[kind](good))
    assert done.done == ()
    assert not target.exists()


def test_the_missing_bytes_are_named_exactly(good: bytes, tmp_path: Path) -> None:
    cut = KINDS["truncate"](good)
    _, done, _ = mend(tmp_path, cut)
    assert done.ranges == ((len(cut), len(good) - 1),)


def test_a_damaged_tensor_is_named_as_a_range(good: bytes, tmp_path: Path) -> None:
    broken = KINDS["zero-hole"](good)
    _, done, _ = mend(tmp_path, broken)
    ((first, last),) = done.ranges
    assert broken[:first] + good[first : last + 1] + broken[last + 1 :] == good


def test_the_copy_needs_another_name(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(KINDS["eos-107"](good))
    with pytest.raises(UsageError, match="a name of its own"):
        repair(judge(gather(path, talk=False)), path, path)


def test_a_bug_report_holds_no_private_path(good: bytes, tmp_path: Path) -> None:
    report, _, _ = mend(tmp_path, KINDS["eos-107"](good))
    text = bug_report(report)
    assert "tokenizer.ids" in text
    assert "broken.gguf" in text
    assert str(tmp_path) not in text


def test_private_words_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    text = private(
        "/home/ada/models/x.gguf: see /home/ada/other/y.bin and C:\\Users\\ada\\z.gguf", "/nowhere"
    )
    assert "ada" not in text
    assert "x.gguf" in text
    assert "y.bin" in text
