"""Sound files that are not Gemma 4 text models are named, and their content is not judged."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g4cli.cli.main import run
from g4cli.core.errors import BadGGUF
from g4cli.core.file_kind import FileKind, kind_of
from g4cli.core.gguf import read_header
from g4cli.core.progress import no_progress
from g4cli.core.shape import shape_of
from g4cli.core.units import GIB
from g4cli.doctor.diagnose import diagnose_file, judge_facts
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.probe.child import ChildAnswer, ProbeResult
from g4cli.doctor.run_network import LARGE_BYTES, Interview, run_network
from tests.support.builders.damage import GGUF, KINDS, value, with_key
from tests.support.builders.gguf import F32, Key, Tensor, build_gguf, write_gguf
from tests.support.builders.other_kinds import MATRIX, PROJECTION, foreign_keys, mmproj_keys
from tests.support.builders.tiny_file import build_tiny

BIAS: Tensor = ("a.pre_encode.out.bias", F32, [32], bytes(128))


DRAFT: list[Key] = [("general.architecture", "str", "gemma4-assistant")]
ADAPTER: list[Key] = [
    ("general.type", "str", "adapter"),
    ("general.architecture", "str", "gemma4"),
    ("adapter.type", "str", "lora"),
]
IMATRIX: list[Key] = [
    ("general.type", "str", "imatrix"),
    ("imatrix.datasets", "[str]", ["wiki"]),
]
ZEROS: Tensor = ("blk.0.attn_q.weight.lora_b", F32, [32, 32], None)

# keys, tensors, kind, words of the summary, words of what to do next
FILES: tuple[tuple[list[Key], list[Tensor], FileKind, str, str], ...] = (
    (foreign_keys("gemma3"), [MATRIX], "other-model",
     "this is Gemma 3 (gemma3, Q4_K_M), not Gemma 4", "llama-cli -m "),
    (foreign_keys("zzzzz", file_type=0), [MATRIX], "other-model",
     "a model of the architecture zzzzz, F32, not Gemma 4", "llama-cli -m "),
    (foreign_keys("llama"), [], "other-model",
     "the vocabulary of Llama (llama, Q4_K_M)", "llama-cli"),
    (mmproj_keys("gemma4v"), [PROJECTION, BIAS], "mmproj",
     "this is the image encoder (mmproj) of a Gemma 4 model", "g4 chat MODEL --mmproj "),
    (mmproj_keys("pixtral"), [PROJECTION], "other-mmproj",
     "of another model (pixtral)", "llama-mtmd-cli"),
    (DRAFT, [MATRIX], "draft-model", "a draft model of Gemma 4", "g4 chat MODEL --draft "),
    (ADAPTER, [ZEROS], "adapter", "a LoRA adapter", "--lora "),
    (IMATRIX, [ZEROS], "imatrix", "an importance matrix", "g4 quantize MODEL OUT --imatrix "),
)  # fmt: skip
IDS = [f"{row[2]}-{i}" for i, row in enumerate(FILES)]


@pytest.mark.parametrize(("keys", "tensors", "kind", "said", "todo"), FILES, ids=IDS)
def test_a_sound_file_of_another_kind_is_named_and_not_judged(
    keys: list[Key], tensors: list[Tensor], kind: str, said: str, todo: str, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "model.gguf", keys, tensors)
    # A language model of another architecture is run: test_other_models.py does so.
    for depth in ("quick",) if kind == "other-model" else ("quick", "default"):
        report = diagnose_file(path, depth=depth)  # type: ignore[arg-type]
        assert (report.verdict, report.exit_code, report.kind) == ("not-checked", 0, kind)
        assert said in report.summary
        assert (_what_examines(tensors) if kind == "other-model" else todo) in report.fix
        assert {f.status for f in report.findings} <= {"ok", "warn", "skipped"}
        if depth == "default":
            # What was just typed would skip these checks again.
            assert not [f.id for f in report.findings if f.status == "skipped" and f.fix]
        if kind in ("other-mmproj", "adapter", "imatrix"):
            judged = {f.id for f in report.findings if f.status != "skipped"}
            assert judged <= {"file.magic", "file.header", "file.size", "keys.architecture"}


def _what_examines(tensors: list[Tensor]) -> str:
    """Return the command that runs a model of another architecture, if there is anything to run."""
    return "g4 doctor " if tensors else ""


@pytest.mark.parametrize(("keys", "tensors", "kind", "said", "todo"), FILES, ids=IDS)
def test_it_is_refused_where_a_text_model_is_needed(
    keys: list[Key], tensors: list[Tensor], kind: str, said: str, todo: str, tmp_path: Path
) -> None:
    header = read_header(write_gguf(tmp_path / "model.gguf", keys, tensors))
    with pytest.raises(BadGGUF) as caught:
        shape_of(header)
    assert said.split(". ")[0] in caught.value.message
    assert todo in (caught.value.hint or "")
    assert kind_of(header) == kind


def test_show_says_why_there_is_no_network_to_describe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_gguf(tmp_path / "gemma3.gguf", foreign_keys("gemma3"), [MATRIX])
    assert run(["show", str(path)]) == 0
    assert "this is Gemma 3 (gemma3, Q4_K_M), not Gemma 4" in capsys.readouterr().out


def read_error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was said on stderr, unfolded."""
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("row", [FILES[0], FILES[4], FILES[7]], ids=lambda r: r[2])
def test_fix_refuses_another_kind_of_file(
    row: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_gguf(tmp_path / "m.gguf", row[0], row[1]), tmp_path / "fixed.gguf"
    assert run(["doctor", str(path), "--quick", "--fix", str(out)]) == 2
    assert row[3].split(". ")[0] in read_error(capsys)
    assert not out.exists()


def test_a_damaged_file_of_another_model_is_damaged(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", foreign_keys("gemma3"), [MATRIX], cut=-2000)
    report = diagnose_file(path)
    assert (report.verdict, report.exit_code) == ("file-damaged", 8)


def test_a_vocabulary_is_called_one(tmp_path: Path) -> None:
    file = GGUF(build_tiny())
    file.tensors = {}
    path = tmp_path / "v.gguf"
    path.write_bytes(file.encode())
    report = diagnose_file(path, depth="quick")
    assert (report.verdict, report.kind) == ("not-checked", "vocabulary")
    assert "the vocabulary of a Gemma 4 model without its weights" in report.summary


@pytest.mark.slow
def test_a_copy_whose_verdict_is_no_better_is_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ids can be mended, the vocabulary that names other control tokens cannot."""
    broken, out = tmp_path / "b.gguf", tmp_path / "m.gguf"
    broken.write_bytes(KINDS["eos-107"](KINDS["turns-swapped"](build_tiny())))
    assert run(["doctor", str(broken), "--quick", "--fix", str(out), "--json"]) == 8
    answer = json.loads(capsys.readouterr().out)
    assert answer["repair"]["kept"] is False
    assert answer["repair"]["path"] is None
    assert not out.exists()
    assert run(["doctor", str(broken), "--quick", "--fix", str(out)]) == 8
    assert (
        "no copy was kept: after the repair it would still be TOKENIZER" in capsys.readouterr().out
    )


@pytest.mark.slow
def test_fix_replaces_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, out = tmp_path / "b.gguf", tmp_path / "m.gguf"
    broken.write_bytes(KINDS["eos-107"](build_tiny()))
    out.write_text("my notes")
    assert run(["doctor", str(broken), "--quick", "--fix", str(out)]) == 2
    assert out.read_text() == "my notes"
    assert "exists" in read_error(capsys)


def test_a_bias_of_zeros_is_no_defect_and_a_matrix_of_zeros_is(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", mmproj_keys("gemma4v"), [PROJECTION, BIAS])
    assert diagnose_file(path).exit_code == 0
    zeros: Tensor = ("v.blk.0.attn_q.weight", F32, [32, 32], None)
    path = write_gguf(tmp_path / "m.gguf", mmproj_keys("gemma4v"), [PROJECTION, BIAS, zeros])
    report = diagnose_file(path)
    assert [f.id for f in report.findings if f.status == "fail"] == ["weights.zero"]
    assert "1 of 3 tensors" in report.evidence[0]


def build_safetensors() -> bytes:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return struct.pack("<Q", len(header)) + header + bytes(4)


@pytest.mark.slow
def test_a_checkpoint_is_no_gguf_and_the_way_to_convert_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(build_safetensors())
    for name in (folder, folder / "model.safetensors"):
        assert run(["doctor", str(name), "--json"]) == 5
        answer = json.loads(capsys.readouterr().out)
        assert answer["verdict"] == "not-a-gguf"
        assert "checkpoint" in answer["summary"]
        assert answer["fix"] == f"g4 convert '{folder}'"
    assert run(["chat", str(folder), "-p", "hi"]) == 2
    assert f"g4 convert '{folder}'" in read_error(capsys)


@pytest.mark.parametrize(
    "data",
    [
        b"\xe0L\x00\x00rest",
        b"hello",
        b"",
        build_safetensors(),
        b"\x80\x02}q\x00",
        b"\x1f\x8b\x08\x00",
    ],
)
def test_no_message_shows_bytes_as_python_writes_them(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    report = diagnose_file(path)
    assert (report.verdict, report.exit_code) == ("not-a-gguf", 5)
    assert not [f for f in report.findings if f.status == "skipped" and f.fix]
    assert not [
        t for t in (report.summary, *(f.found for f in report.findings)) if "b'" in t or "\\x" in t
    ]


def test_a_gguf_with_a_damaged_magic_is_a_damaged_gguf(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"XXXX" + build_gguf(foreign_keys("gemma3"), [MATRIX])[4:])
    report = diagnose_file(path)
    assert (report.verdict, report.exit_code) == ("file-damaged", 8)
    assert "58 58 58 58" in report.evidence[0]


def test_no_command_that_would_be_too_slow_again_is_advised(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    slow = ProbeResult(child=ChildAnswer(exit_code=-9, timed_out=True))
    facts = replace(gather_facts(path, only=("file",)), probe=slow)
    report = judge_facts(facts, ("probe",))
    assert (report.verdict, report.exit_code) == ("not-checked", 0)
    assert report.fix == f"g4 fit {path}"
    assert "(no answer in time)" in report.summary


def test_another_context_length_is_not_called_repairable(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(with_key("gemma4.context_length", value("u32", 512))(build_tiny()))
    (finding,) = judge_facts(gather_facts(path, "quick"), ("keys.shape",)).findings
    assert (finding.status, finding.fix) == ("warn", "")


def test_all_parts_of_a_split_model_count_for_what_running_it_needs(tmp_path: Path) -> None:
    paths = [tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
    for path, n_bytes in zip(paths, (100, 9 * GIB), strict=True):
        path.touch()
        os.truncate(path, n_bytes)
    facts = FileFacts(str(paths[0]), 100)
    asked = Interview((), lambda _: False, tuple)

    def reason(free_bytes: int) -> str:
        return run_network(
            facts,
            paths[0],
            asked,
            free_bytes=free_bytes,
            large_bytes=LARGE_BYTES,
            progress=no_progress,
        ).probe_skipped

    assert "9.00 GiB take minutes" in reason(0)
    assert "9.00 GiB do not fit into 8.00 GiB" in reason(8 * GIB)
