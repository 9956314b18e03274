"""`g4 fit` as a user runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from g4cli.cli.main import run
from g4cli.core.registry import MADE_TYPES, MODELS
from g4cli.core.units import GIB
from g4cli.host import Gpu, HostFacts
from g4cli.runtime.llama.devices import can_offload
from tests.support.builders import real_shapes, shapes

PROMISED = [
    "model",
    "n_ctx",
    "kv_type",
    "weights_bytes",
    "kv_bytes",
    "compute_bytes",
    "total_bytes",
    "fits",
    "reason",
]


def machine(
    monkeypatch: pytest.MonkeyPatch, *, free: int, gpus: tuple[Gpu, ...] | None = None
) -> None:
    """Make `g4 fit` see a machine of 32 GiB with `free` bytes free."""
    facts = HostFacts(32 * GIB, free, "memory", frozenset({"avx2"}), gpus)
    monkeypatch.setattr("g4cli.operations.fit.machine.read_host", lambda: facts)


def test_json_holds_the_promised_keys_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "tiny", "--ctx", "1024", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data)[: len(PROMISED)] == PROMISED
    assert data["model"] == "tiny:bf16"
    assert (data["n_ctx"], data["kv_type"], data["fits"]) == (1024, "f16", True)
    # Owned caches: 4 sliding layers of 64 and 1 full of 128 wide; 768 and 1024 cells; K and V; 2
    # bytes.
    assert data["kv_bytes"] == (4 * 768 * 64 + 1 * 1024 * 128) * 2 * 2
    assert data["total_bytes"] == sum(t["nbytes"] for t in data["terms"] if t["group"] != "disk")


def test_the_network_is_counted_for_as_many_tokens_as_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    machines = ["--memory", "8GB", "--worker-memory", "8GB"]
    assert run(["fit", "tiny", "--ctx", "1k", "--ubatch", "64", *machines]) == 0
    assert "for 64 tokens of a prompt" in capsys.readouterr().out


@pytest.mark.slow
def test_the_human_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, free=16 * GIB)
    assert run(["fit", "e2b", "--ctx", "4k"]) == 0
    text = capsys.readouterr().out
    for word in (
        "to get it: g4 pull e2b:q4_0 (google/",
        "3.12 GiB",
        "e2b:q4_0",
        "context 4,096: as requested",
        "KV cache, sliding",
        "12.0 MiB",
        "131,072",
        "free",
    ):
        assert word in text


@pytest.mark.slow
def test_what_cannot_fit_leaves_with_4_and_still_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = HostFacts(4 * GIB, 3 * GIB, "memory", frozenset(), None)
    monkeypatch.setattr("g4cli.operations.fit.machine.read_host", lambda: small)
    assert run(["fit", "31b", "--ctx", "4k", "--json"]) == 4
    data = json.loads(capsys.readouterr().out)
    assert data["fits"] is False
    assert data["reason"].endswith("4.00 GiB in all")
    assert run(["fit", "31b", "--ctx", "4k"]) == 4
    assert "Does not fit: " in capsys.readouterr().out


def test_quiet_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "tiny", "-q"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("fits: ")
    assert out.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["e2b", "--ctx", "131073"], 2, "at most 131,072"),
        (["e2b", "--ctx", "many"], 2, "not a number of tokens"),
        (["e2b", "--kv-type", "q3_k"], 2, "kv-type"),
        (["e2b", "--kv-type", "q8_0", "--no-flash-attn"], 2, "needs flash attention"),
        (["e2b:q99"], 2, "q99"),
        (["e9b"], 3, "no model is called"),
        (["missing.gguf"], 3, "no such file"),
        (["e2b", "--ctx", "0"], 2, "context of 0"),
        (["e2b", "--ubatch", "-1"], 2, "--ubatch"),
        (["e2b", "--sequences", "257"], 2, "at most 256"),
    ],
)
def test_bad_requests(
    args: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fit", *args]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert "hint:" in captured.err


def test_a_file_that_is_no_gguf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"not a model at all")
    assert run(["fit", str(path)]) == 5
    assert "not a GGUF" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.requires_vocab
def test_a_vocabulary_has_nothing_to_estimate(
    vocab_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fit", str(vocab_file)]) == 5
    assert "hint:" in capsys.readouterr().err


@pytest.mark.slow
def test_the_registry_alone_loads_nothing_heavy() -> None:
    code = (
        "import sys; from g4cli.cli.main import run; run(['fit', 'e2b', '--json']);"
        "heavy = ('numpy', 'llama_cpp', 'huggingface_hub', 'torch', 'rich')\n"
        "print([m for m in heavy if m in sys.modules],"
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def assert_verified(proof: dict[str, Any]) -> None:
    """Fail unless g4's figures are llama.cpp's on a CPU, and at least those on a GPU."""
    if can_offload():
        assert all(row["estimate"] >= row["llama_cpp"] for row in proof["rows"])
    else:
        assert proof["equal"] is True


def test_verify_shows_llama_cpp_s_own_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = real_shapes.build(tmp_path / "tiny.gguf", "tiny", shapes.TINY, "q8_0")
    assert run(["fit", str(path), "--ctx", "2k", "--kv-type", "q8_0", "--verify", "--json"]) == 0
    proof = json.loads(capsys.readouterr().out)["verify"]
    assert [row["term"] for row in proof["rows"]] == ["weights", "KV cache", "compute buffer"]
    assert_verified(proof)
    assert all(row["llama_cpp"] > 0 for row in proof["rows"])
    assert run(["fit", str(path), "--verify"]) == 0
    assert "llama.cpp's own plan" in capsys.readouterr().out


@pytest.mark.slow
def test_verify_shows_the_drafter_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = real_shapes.build(tmp_path / "tiny.gguf", "tiny", shapes.TINY, "q4_0")
    draft = real_shapes.build_draft(tmp_path / "d.gguf", shapes.TINY, shapes.DRAFTS["tiny"], "q4_0")
    assert run(["fit", str(path), "--draft", str(draft), "--verify", "--json"]) == 0
    proof = json.loads(capsys.readouterr().out)["verify"]
    assert [row["term"] for row in proof["rows"]][3:] == ["draft model", "draft model buffers"]
    assert_verified(proof)
    assert run(["fit", str(path), "--draft", "lookup", "--verify", "--json"]) == 0
    assert_verified(json.loads(capsys.readouterr().out)["verify"])


@pytest.mark.slow
def test_verify_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "31b", "--verify"]) == 2
    assert "g4 pull 31b" in capsys.readouterr().err


@pytest.mark.slow
def test_types_are_ranked_and_the_trained_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, free=16 * GIB)
    run(["fit", "12b", "--ctx", "8k", "--json"])
    data = json.loads(capsys.readouterr().out)
    sizes = [row["weights_bytes"] for row in data["types"]]
    assert sizes == sorted(sizes, reverse=True)
    assert data["best_type"] == "q4_0"  # Google's quantization-aware training
    assert "q8_0 is the most precise that fits with 8,192 tokens" in data["type_reason"]
    fits = {row["type"]: row["fits"] for row in data["types"]}
    assert fits["q8_0"]
    assert not fits["bf16"]


@pytest.mark.parametrize(
    ("name", "nbytes"), [("e2b:q6_k", 4_501_719_168), ("12b:q4_k_m", 7_121_861_440)]
)
def test_the_weights_are_those_of_the_published_file(
    name: str, nbytes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Publishers mix types: unsloth's Q6_K of E2B is 670 MB larger than llama-quantize's."""
    run(["fit", name, "--json"])
    data = json.loads(capsys.readouterr().out)
    assert abs(data["weights_bytes"] - (nbytes - 15_825_000)) < 20_000


@pytest.mark.slow
def test_matrix_lists_every_type_of_every_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, free=8 * GIB)
    assert run(["fit", "--matrix", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    cells = {(row["model"], row["type"]): row for row in rows}
    assert cells["tiny", "bf16"]["largest_ctx"] == 2048
    assert cells["e2b", "q4_0"]["fits"]
    assert cells["31b", "q4_0"]["largest_ctx"] == 0
    assert {(row["model"], row["type"]) for row in rows} == {
        (m.name, t) for m in MODELS for t in MADE_TYPES
    }
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(
        "g4cli.operations.fit.answer.rank_all_models", lambda *_: rows
    )  # a second time costs a second
    assert run(["fit", "--matrix"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "8.00 GiB free on host" in text
    for kind in MADE_TYPES:
        assert f"\n{kind} " in text
    assert run(["fit", "--matrix", "--quiet"]) == 0
    fitting = [f"{model}:{kind}" for (model, kind), row in cells.items() if row["fits"]]
    assert capsys.readouterr().out.split() == fitting


@pytest.mark.slow
def test_another_machine_is_described_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "12b", "--memory", "8GB", "--json"]) == 4
    data = json.loads(capsys.readouterr().out)
    host = data["devices"][0]
    assert (host["total_bytes"], host["available_bytes"]) == (8 * GIB, 7 * GIB)
    assert (data["machine"], data["limited_by"]) == ("a machine with 8.00 GiB", "memory")
    assert data["instead"] == "e4b:q4_0 fits with 32,768 tokens: g4 fit e4b --memory 8G"
    assert run(["fit", "e4b", "--memory", "8GB", "-q"]) == 0
    assert run(["fit", "12b", "--memory", "16GB", "--gpu-memory", "12GB,8GB", "--json"]) == 0
    data = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert [d["name"] for d in data["devices"]] == ["host", "GPU0", "GPU1"]
    assert data["placement"].startswith("all 48 layers on GPU0 (12.0 GiB free) and GPU1")
    assert run(["fit", "12b", "--memory", "16GB"]) == 0
    text = capsys.readouterr().out
    assert "12b:q4_0 on a machine with 16.0 GiB" in text
    assert "14.0 GiB of 16.0 GiB assumed free" in text


@pytest.mark.slow
def test_a_gpu_is_added_to_this_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, free=30 * GIB)
    assert run(["fit", "31b", "--gpu-memory", "24GB", "--ctx", "8k", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["machine"] == "this machine with a GPU of 24.0 GiB"
    assert data["devices"][0]["available_bytes"] == 30 * GIB
    assert data["reason"].count("needed") == 2
    assert "needed in host memory" in data["reason"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--memory", "much"], "not a size"),
        (["--memory", "8"], "not a valid memory size"),
        (["--memory", "9999999T"], "0.25 GiB to 1 EiB"),
        (["--mmproj", "none.gguf", "--image-tokens", "-5000"], "--image-tokens"),
        (["--gpu-memory", "24GB,"], "not a size"),
        (["--gpu-memory", ",".join(["8GB"] * 17)], "16 at most"),
        (["--draft", "none.gguf"], "no such file"),
    ],
)
def test_machines_and_drafters_that_make_no_sense(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fit", "e2b", *args]) == (3 if words == "no such file" else 2)
    assert words in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["31b", "--memory", "24GB", "--ctx", "max", "--kv-type", "f16"], ""),
        (["31b", "--memory", "24GB", "--ctx", "256k"], "tokens of context fit: --ctx "),
        (
            ["31b", "--memory", "22GB", "--ctx", "4k"],
            "with the KV cache in 8 bits: --kv-type q8_0 --ctx max",
        ),
        (
            ["12b:bf16", "--memory", "16GB", "--ctx", "8k"],
            "12b:q4_0 fits with 8,192 tokens: g4 fit 12b:q4_0",
        ),
        (["e2b", "--memory", "4GB"], "on the disk (about a tenth slower): --lazy-ple on --ctx max"),
        (["31b", "--memory", "2GB"], ""),
    ],
)
def test_what_fits_instead_is_a_command(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["fit", *args, "--json"])
    found = json.loads(capsys.readouterr().out)["instead"]
    assert words in found
    assert bool(words) == bool(found)


@pytest.mark.slow
def test_a_drafting_network_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def terms(*args: str) -> dict[str, int]:
        assert run(["fit", *args, "--memory", "32GB", "--ctx", "4k", "--json"]) == 0
        data = json.loads(capsys.readouterr().out)
        return {t["name"]: t["nbytes"] for t in data["terms"]}

    off, lookup = terms("e2b", "--draft", "off"), terms("e2b")
    row = 4 * 262_144
    assert (off["output buffer"], lookup["output buffer"]) == (row, 4 * row)
    assert "draft model" not in lookup
    network = terms("e2b", "--draft", "network")
    assert abs(network["draft model"] - 82_050_176) < 1000  # llama.cpp's own figure, without mmap
    assert network["output buffer"] == 4 * row + 4 * 1536 * 2048
    path = real_shapes.build_draft(tmp_path / "d.gguf", shapes.E2B, shapes.DRAFTS["e2b"], "bf16")
    assert terms("e2b", "--draft", str(path))["draft model"] > 154_000_000
    assert run(["fit", "e4b", "--draft", str(path)]) == 2
    assert "draft model for a hidden size of 1536" in capsys.readouterr().err
    assert run(["fit", "tiny", "--draft", "network"]) == 2
    assert run(["fit", "e2b", "--draft", str(tmp_path / "d.gguf"), "--memory", "32GB"]) == 0
    assert "speculative decoding: draft model" in capsys.readouterr().out


@pytest.mark.slow
def test_a_gpu_gets_a_bar_and_the_layers_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = Gpu("CUDA0", "a card", 24 * GIB, 23 * GIB)
    machine(monkeypatch, free=30 * GIB, gpus=(gpu,))
    assert run(["fit", "e2b", "--ctx", "8k"]) == 0
    text = capsys.readouterr().out
    assert "CUDA0" in text
    assert "Layers: all 35 layers on CUDA0 (23.0 GiB free)." in text
    assert run(["fit", "e2b", "--ctx", "8k", "--gpu", "off"]) == 0
    assert "CUDA0" not in capsys.readouterr().out


def gpu_weights(data: dict[str, Any]) -> int:
    terms = [t for t in data["terms"] if t["device"] == "CUDA0" and t["group"] == "weights"]
    return sum(t["nbytes"] for t in terms)


@pytest.mark.slow
def test_a_layout_that_was_asked_for_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = Gpu("CUDA0", "a card", 24 * GIB, 23 * GIB)
    machine(monkeypatch, free=30 * GIB, gpus=(gpu,))
    assert run(["fit", "26b", "--ctx", "8k", "--gpu-layers", "10", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["placement"] == "10 layers on the GPU: as requested"
    assert 4 * GIB < gpu_weights(data) < 6 * GIB  # 9 of 30 layers and the output matrix
    assert run(["fit", "26b", "--ctx", "8k", "--n-cpu-moe", "30", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    experts_left = sum(
        t["nbytes"] for t in data["terms"] if t["device"] == "CUDA0" and t["group"] == "weights"
    )
    assert experts_left < 3 * GIB
    assert run(["fit", "26b", "--gpu-layers", "some"]) == 2


def test_another_library_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("g4cli.operations.fit.answer.engine_version", lambda: "0.4.0")
    run(["fit", "tiny", "--json"])
    captured = capsys.readouterr()
    assert "verified with llama-cpp-python 0.3.36; 0.4.0 is installed" in captured.err
    assert json.loads(captured.out)["library"] == "0.4.0"


@pytest.mark.slow
def test_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "--memory", "16GB"]) == 0
    seen = capsys.readouterr()
    for model in ("e2b:q4_0", "e4b:q4_0", "12b:q4_0", "26b", "31b"):
        assert re.search(rf"^{model} ", seen.out, re.MULTILINE), model
    assert re.search(r"^12b:q4_0 ←.*✓ fits$", seen.out, re.MULTILINE)
    assert re.search(r"^31b .*✗ does not fit$", seen.out, re.MULTILINE)
    assert "next: g4 pull 12b:q4_0" in seen.err
    assert run(["fit", "--memory", "16GB", "--quiet"]) == 0
    assert capsys.readouterr().out == "12b:q4_0\n"
    assert run(["fit", "--memory", "1GB"]) == 4
    assert run(["fit", "--verify"]) == 2


def test_the_bar_shows_what_is_too_much(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, free=8 * GIB)
    assert run(["fit", "31b", "--ctx", "4k"]) == 4
    first = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("host"))
    cells = first.split()[1]
    assert len(cells) == 56
    # 18.3 GiB needed, 8 free: a little over half of the bar is too much.
    assert 0.5 < cells.count("!") / 56 < 0.6


@pytest.mark.slow
def test_a_pulled_model_is_answered_from_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pull", "tiny:q8_0", "-q"]) == 0
    capsys.readouterr()
    assert run(["fit", "tiny:q8_0", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["model"], data["source"]) == ("tiny:q8_0", "the pulled file")
