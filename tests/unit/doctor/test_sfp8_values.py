"""Files labeled SFP8: those of g4's encoder pass, and a single other number is found."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from g4cli.core.gguf import read_header
from g4cli.core.sfp8 import decode_words, read_labels
from g4cli.doctor.diagnose import judge_facts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.facts.sfp8_values import Sfp8ValueCounter
from g4cli.quant.expand import make_runnable
from g4cli.quant.file import quantize_file
from g4cli.quant.recipes import Recipe
from tests.support.builders.damage import sfp8_table
from tests.support.builders.weights import write_network

CODED = "blk.0.ffn_down.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a network as archive, BF16 values, expansion and gemma.cpp rounding."""
    folder = tmp_path_factory.mktemp("container")
    source = write_network(folder / "net.gguf", n_layer=2, n_embd=128, n_ff=96, ple=32, sigma=0.4)
    quantize_file(source, folder / "archive.gguf", recipe=Recipe("sfp8"))
    quantize_file(source, folder / "container.gguf", recipe=Recipe("sfp8", container="bf16"))
    recipe = Recipe("sfp8", container="bf16", sfp8_encoder="gemma.cpp")
    quantize_file(source, folder / "gemma-cpp.gguf", recipe=recipe)
    make_runnable(folder / "archive.gguf", folder).rename(folder / "expanded.gguf")
    return folder


@pytest.mark.parametrize("name", ["archive", "container", "expanded", "gemma-cpp"])
def test_what_g4_writes_passes(name: str, folder: Path) -> None:
    report = judge_facts(gather_facts(folder / f"{name}.gguf"), ("weights.sfp8",))
    (finding,) = report.findings
    assert finding.status == "ok", finding.found
    assert "are SFP8 values" in finding.found


def test_a_plain_file_has_no_label(folder: Path) -> None:
    assert read_labels(read_header(folder / "net.gguf").keys) == ("", frozenset())


@pytest.mark.parametrize(("name", "number"), [("container", b"\x01\x3c"), ("archive", b"\x80")])
def test_one_foreign_number_is_found(
    name: str, number: bytes, folder: Path, tmp_path: Path
) -> None:
    header = read_header(folder / f"{name}.gguf")
    data = bytearray((folder / f"{name}.gguf").read_bytes())
    place = header.file_offset(header.tensors[CODED]) + 1000
    data[place : place + len(number)] = number
    path = tmp_path / "broken.gguf"
    path.write_bytes(bytes(data))
    report = judge_facts(gather_facts(path), ("weights.sfp8",))
    assert (report.verdict, report.exit_code) == ("conversion-defect", 8)
    assert CODED in report.evidence[0]


def test_the_table_is_the_formats() -> None:
    assert decode_words() == sfp8_table().tolist()


@pytest.mark.parametrize("exponent", [-12, -1, 0, 3])
def test_every_value_of_the_table_passes_at_every_scale(exponent: int) -> None:
    words = sfp8_table().astype(np.int64)
    scaled = np.where(words & 0x7FFF, words + (exponent << 7), words).astype("<u2")
    counter = Sfp8ValueCounter("BF16", only_scaled_down=False)
    for part in np.array_split(scaled, 3):
        counter.add_piece(part.view(np.uint8))
    assert counter.count_invalid() == 0


@pytest.mark.slow
def test_every_other_number_is_counted() -> None:
    """All bfloat16 numbers up to 1.875 that are not in the table, each with the largest."""
    known = {w & 0x7FFF for w in sfp8_table().tolist()}
    missed = []
    for word in range(1, 0x3FF1):
        counter = Sfp8ValueCounter("BF16", only_scaled_down=False)
        counter.add_piece(np.array([0x3FF0, word], "<u2").view(np.uint8))
        if bool(counter.count_invalid()) == (word in known):
            missed.append(hex(word))
    assert missed == []


def test_a_float_container_has_nothing_below_its_upper_half() -> None:
    for number, foreign in ((1.5, 0), (1.5 + 2**-20, 1)):
        counter = Sfp8ValueCounter("F32", only_scaled_down=False)
        counter.add_piece(np.frombuffer(struct.pack("<ff", 1.875, number), np.uint8))
        assert counter.count_invalid() == foreign


def test_a_scale_below_one_is_gemma_cpps_no() -> None:
    small = np.array([0x3C40, 0x3C50], "<u2").view(
        np.uint8
    )  # 3 * 2^-8 and 3.25 * 2^-8: the third bit is set
    for only_down, foreign in ((False, 0), (True, 1)):
        counter = Sfp8ValueCounter("BF16", only_scaled_down=only_down)
        counter.add_piece(small if not only_down else np.array([0x3B50], "<u2").view(np.uint8))
        assert counter.count_invalid() == foreign
