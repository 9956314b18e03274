"""A checkpoint in any type in one pass equals a conversion and llama.cpp's quantizer."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize

from g4cli.converters import convert_checkpoint
from g4cli.core.errors import Interrupted, UsageError
from g4cli.store.recode import choose_target, convert_folder
from tests.support.builders import variants
from tests.support.run.llama_quantize import expect

TYPES = ("q4_0", "q8_0", "q4_k_m", "q6_k")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("variants")
    return {
        name: variants.write_variant(base / name, variants.load(name)) for name in variants.names()
    }


def read_tensors(path: Path) -> list[tuple[str, str, bytes]]:
    return [(t.name, t.tensor_type.name, t.data.tobytes()) for t in GGUFReader(path).tensors]


@pytest.mark.slow
def test_every_variant_equals_convert_and_llama_quantize(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    jobs = []
    for name, folder in folders.items():
        # The plain file keeps the source's own precision; test_variants.py shows that it is
        # llama.cpp's.
        plain = convert_checkpoint(folder, tmp_path / f"{name}.gguf", plain=None).path
        jobs += [
            {"source": str(plain), "target": str(tmp_path / f"{name}-{kind}.peer"), "type": kind}
            for kind in TYPES
        ]
    assert set(expect(jobs)) == {0}
    for name, folder in folders.items():
        for kind in TYPES:
            done = convert_folder(folder, tmp_path / "ours.gguf", type_name=kind, force=True)
            assert read_tensors(done.path) == read_tensors(tmp_path / f"{name}-{kind}.peer"), (
                name,
                kind,
            )


def test_towers_in_q8_0(folders: dict[str, Path], tmp_path: Path) -> None:
    """gguf-py's quantiser is the oracle; llama.cpp's own has no graph for mmproj files."""
    folder = folders["gemma-4-E2B-it"]
    plain = convert_checkpoint(folder, tmp_path / "plain.gguf", part="mmproj").path
    small = convert_folder(folder, tmp_path / "small.gguf", type_name="Q8_0", part="mmproj").path
    seen = set()
    for before, after in zip(GGUFReader(plain).tensors, GGUFReader(small).tensors, strict=True):
        kind = after.tensor_type
        seen.add(kind.name)
        assert before.name == after.name
        if before.tensor_type is GGMLQuantizationType.F32:
            assert (kind.name, after.data.tobytes()) == ("F32", before.data.tobytes())
            continue
        values = (before.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        fits = values.reshape(tuple(reversed(before.shape.tolist()))).shape[-1] % 32 == 0
        assert kind.name == ("Q8_0" if fits else "F16")
        assert (
            after.data.tobytes()
            == quantize(values.reshape(-1, int(before.shape[0])), kind).tobytes()
        )
    assert seen == {"F32", "F16", "Q8_0"}
    assert GGUFReader(small).fields["general.file_type"].contents() == 7


def test_towers_in_other_types_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="an mmproj file cannot be q4_0"):
        convert_folder(
            folders["gemma-4-E2B-it"], tmp_path / "x.gguf", type_name="q4_0", part="mmproj"
        )


def test_the_file_is_named_after_folder_part_and_type(tmp_path: Path) -> None:
    assert choose_target(tmp_path / "gemma-4-E2B-it", "q4_0", "text") == Path(
        "gemma-4-E2B-it-Q4_0.gguf"
    )
    assert choose_target(tmp_path / "m", "bf16", "mmproj") == Path("mmproj-m-BF16.gguf")


def test_threads_do_not_change_the_file(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = folders["gemma-4-26B-A4B-it"]
    one = convert_folder(folder, tmp_path / "1.gguf", type_name="q4_0", threads=1)
    many = convert_folder(folder, tmp_path / "4.gguf", type_name="q4_0", threads=4)
    assert one.sha256 == many.sha256


def test_an_interrupt_says_what_is_kept(folders: dict[str, Path], tmp_path: Path) -> None:
    def interrupt_halfway(done: int, total: int, _label: str) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    folder, target = folders["my-finetune"], tmp_path / "out" / "x.gguf"
    with pytest.raises(Interrupted, match="nothing was kept"):
        convert_folder(folder, target, type_name="q4_0", progress=interrupt_halfway)
    assert list(target.parent.iterdir()) == []
    before = convert_folder(folder, target, type_name="q4_0").sha256
    with pytest.raises(Interrupted, match="was not changed"):
        convert_folder(folder, target, type_name="bf16", force=True, progress=interrupt_halfway)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == before
    assert [p.name for p in target.parent.iterdir()] == ["x.gguf"]
