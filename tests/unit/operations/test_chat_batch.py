"""What `g4 chat --prompts` decides before the model is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from g4cli.core.errors import BadFile
from g4cli.core.units import MIB
from g4cli.operations.chat.batch import choose_parallel, list_open_prompts, name_encoder
from g4cli.operations.chat.request import ChatRequest
from g4cli.operations.prompts import Prompt
from g4cli.prompt.messages import Media


def make_model(folder: Path, *sizes: int) -> Path:
    """Return the first of the parts of these sizes, which hold nothing."""
    names = [f"m-{i:05d}-of-{len(sizes):05d}.gguf" for i in range(1, len(sizes) + 1)]
    for name, size in zip(names if len(sizes) > 1 else ["m.gguf"], sizes, strict=True):
        with (folder / name).open("wb") as file:
            file.truncate(size)
    return min(folder.iterdir())


@pytest.mark.parametrize(
    ("sizes", "draft", "n_parallel"),
    [
        ([512 * MIB], "auto", 4),
        ([511 * MIB], "auto", 1),
        ([512 * MIB], "lookup", 1),
        ([1 * MIB, 400 * MIB, 400 * MIB], "off", 4),  # the first part may hold the header alone
        ([1 * MIB, 100 * MIB, 100 * MIB], "off", 1),
    ],
)
def test_large_models_answer_several_prompts_at_once(
    tmp_path: Path, sizes: list[int], draft: str, n_parallel: int
) -> None:
    path = make_model(tmp_path, *sizes)
    assert choose_parallel(ChatRequest(model=str(path), draft=draft)) == n_parallel


def test_the_encoder_counts_where_a_prompt_has_an_image(tmp_path: Path) -> None:
    request = ChatRequest(model=str(make_model(tmp_path, 1)))
    plain = Prompt("a", "Hello")
    shown = Prompt("b", "What is it?", media=(Media("image", tmp_path / "a.png"),))
    assert name_encoder(request, [plain, shown]) == request, "there is no encoder"
    (tmp_path / "mmproj-m.gguf").touch()
    assert name_encoder(request, [plain]) == request
    assert name_encoder(request, [plain, shown]).mmproj == tmp_path / "mmproj-m.gguf"
    chosen = replace(request, mmproj=tmp_path / "other.gguf")
    assert name_encoder(chosen, [shown]) == chosen


@pytest.mark.parametrize("begun", ["{", '{"id": "1", "sha25'])
def test_an_output_whose_only_line_was_cut_off_is_empty(begun: str, tmp_path: Path) -> None:
    output, prompts = tmp_path / "a.jsonl", [Prompt("1", "Hi")]
    output.write_text(begun)
    assert list_open_prompts(prompts, output) == prompts


@pytest.mark.parametrize("text", ['{"id": "1"}', "precious", '{"type": "answer", "ke'])
def test_an_output_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(BadFile, match="does not hold answers"):
        list_open_prompts([], tmp_path / "a.jsonl")
