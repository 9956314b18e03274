"""Healthy files: tiny in many types, converted fixtures, sparse files of published shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from g4cli.converters import convert_checkpoint
from g4cli.quant.file import quantize_file
from g4cli.quant.recipes import Recipe
from tests.support.builders import real_shapes, shapes, variants
from tests.support.builders.tiny_file import build_tiny

# type and, for SFP8, its container
RECIPES = (
    *(Recipe(name) for name in ("f32", "f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")),
    Recipe("sfp8", container="archive"), Recipe("sfp8", container="bf16"),
    Recipe("sfp8", container="q8_0"),
)  # fmt: skip


def tiny_files(folder: Path) -> Iterator[Path]:
    """Yield the bundled model as BF16 and by every recipe of RECIPES."""
    base = folder / "tiny-bf16.gguf"
    base.write_bytes(build_tiny())
    yield base
    for recipe in RECIPES:
        path = folder / f"tiny-{recipe.type_name}-{recipe.container}.gguf"
        quantize_file(base, path, recipe=recipe)
        yield path


def fixture_files(folder: Path) -> Iterator[Path]:
    """Yield the converted checkpoints of every variant: text networks, encoders, draft models."""
    for name in variants.names():
        source = variants.write_variant(folder / name, variants.load(name))
        for part in variants.load(name)["gguf"]:
            yield convert_checkpoint(source, folder / f"{name}-{part}.gguf", part=part).path


def shaped_files(folder: Path) -> Iterator[Path]:
    """Yield sparse files of the five published shapes, and the published vocabulary, if present."""
    vocabulary = real_shapes.real_vocabulary() or real_shapes.synthetic_vocabulary()
    for name, shape in shapes.PUBLISHED.items():
        yield real_shapes.build(
            folder / f"{name}-sparse.gguf", name, shape, "q4_0", vocabulary=vocabulary
        )
    if real_shapes.SHARED_VOCAB.is_file():
        yield real_shapes.SHARED_VOCAB
