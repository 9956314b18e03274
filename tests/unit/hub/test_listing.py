"""Types, roles and parts of files from published names; addresses as users type them."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.core.errors import BadFile, NotFound, UsageError
from g4cli.core.hub_address import as_address, parse_address
from g4cli.hub.listing import (
    RemoteFile,
    check_paths,
    checkpoint_files,
    parts_of,
    pick_draft,
    pick_mmproj,
    pick_model,
    preferred_type,
    role_of_name,
    type_of_name,
    types_of,
)

# reference: gemma4.md section 1, names of published files; (name, role, type)
NAMES = [
    ("gemma-4-E2B_q4_0-it.gguf", "model", "q4_0"),
    ("gemma-4-E2B-it-mmproj.gguf", "mmproj", ""),
    ("gemma-4-12b-it-qat-q4_0.gguf", "model", "q4_0"),
    ("mmproj-gemma-4-12b-it-qat-q4_0.gguf", "mmproj", "q4_0"),
    ("gemma-4-26B_q4_0-it.gguf", "model", "q4_0"),
    ("gemma-4-E4B-it-Q4_K_M.gguf", "model", "q4_k_m"),
    ("gemma-4-E4B-it-Q8_0.gguf", "model", "q8_0"),
    ("gemma-4-31B-it-BF16-00001-of-00002.gguf", "model", "bf16"),
    ("BF16/gemma-4-31B-it-BF16-00002-of-00002.gguf", "model", "bf16"),
    ("mmproj-gemma-4-E2B-it-bf16.gguf", "mmproj", "bf16"),
    ("mmproj-gemma-4-E2B-it-Q8_0.gguf", "mmproj", "q8_0"),
    ("mmproj-F16.gguf", "mmproj", "f16"),
    ("mtp-gemma-4-31B-it-Q8_0.gguf", "draft", "q8_0"),
    ("MTP/gemma-4-E2B-it-Q8_0-MTP.gguf", "draft", "q8_0"),
    ("gemma-4-E2B-it-assistant-BF16.gguf", "draft", "bf16"),
    ("gemma-4-E4B-it-qat-UD-Q4_K_XL.gguf", "model", "ud-q4_k_xl"),
    ("gemma-4-26B-A4B-it-UD-Q4_K_M.gguf", "model", "ud-q4_k_m"),
    ("google_gemma-4-E2B-it-IQ4_XS.gguf", "model", "iq4_xs"),
    ("gemma-4-31B-it-MXFP4_MOE.gguf", "model", "mxfp4_moe"),
    ("gemma-4-E2B-it-F32.gguf", "model", "f32"),
    ("imatrix.gguf", None, ""),
    ("gemma-4-E2B-it.imatrix.gguf", None, ""),
    ("model.gguf", "model", ""),
    ("README.md", None, ""),
    ("model.safetensors", None, ""),
    ("gemma-4-E2B-it.Q6_K.gguf", "model", "q6_k"),
]


@pytest.mark.parametrize(("path", "role", "kind"), NAMES, ids=[n[0] for n in NAMES])
def test_names_of_published_files(path: str, role: str | None, kind: str) -> None:
    assert role_of_name(path) == role
    assert type_of_name(path) == kind


def make_files(*paths: str) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(path, 10) for path in paths)


GGML_ORG = make_files(
    "README.md",
    "gemma-4-E2B-it-Q4_0.gguf",
    "gemma-4-E2B-it-Q8_0.gguf",
    "gemma-4-E2B-it-bf16.gguf",
    "mmproj-gemma-4-E2B-it-Q8_0.gguf",
    "mmproj-gemma-4-E2B-it-bf16.gguf",
    "mtp-gemma-4-E2B-it-BF16.gguf",
    "mtp-gemma-4-E2B-it-Q8_0.gguf",
)


def test_one_file_is_picked_for_each_role() -> None:
    assert [f.path for f in pick_model("r", GGML_ORG, "q8_0")] == ["gemma-4-E2B-it-Q8_0.gguf"]
    projector, draft = pick_mmproj(GGML_ORG), pick_draft(GGML_ORG)
    assert projector
    assert draft
    assert projector.path == "mmproj-gemma-4-E2B-it-bf16.gguf"
    assert draft.path == "mtp-gemma-4-E2B-it-Q8_0.gguf"
    assert types_of(GGML_ORG) == ("q4_0", "q8_0", "bf16")
    assert preferred_type(GGML_ORG) == "q4_0"
    assert pick_mmproj(make_files("a.gguf")) is pick_draft(make_files("a.gguf")) is None


def test_the_plain_file_in_the_root_is_preferred() -> None:
    held = make_files("old/gemma-Q4_0.gguf", "gemma-decorated-long-Q4_0.gguf", "gemma-Q4_0.gguf")
    assert pick_model("r", held, "q4_0")[0].path == "gemma-Q4_0.gguf"


def test_a_file_without_a_type_serves_when_none_is_asked_for() -> None:
    assert pick_model("r", make_files("model.gguf"), "")[0].path == "model.gguf"
    assert preferred_type(make_files("model.gguf")) == ""
    assert preferred_type(make_files("m-IQ4_XS.gguf")) == "iq4_xs"


def test_an_absent_type_lists_what_there_is() -> None:
    with pytest.raises(NotFound, match=r"no q6_k file \(its types: q4_0 q8_0 bf16\)"):
        pick_model("r", GGML_ORG, "q6_k")
    with pytest.raises(NotFound, match="its types: none"):
        pick_model("r", make_files("mmproj-Q4_0.gguf"), "q4_0")
    with pytest.raises(NotFound, match="r has no GGUF file"):
        pick_model("r", make_files("model.safetensors"), "")


def test_a_split_file_comes_whole_and_in_order() -> None:
    held = make_files(
        "m-BF16-00002-of-00003.gguf", "m-BF16-00001-of-00003.gguf", "m-BF16-00003-of-00003.gguf"
    )
    assert [f.path[7:12] for f in pick_model("r", held, "bf16")] == ["00001", "00002", "00003"]
    assert parts_of("r", held, held[0])[0].path == "m-BF16-00001-of-00003.gguf"
    with pytest.raises(BadFile, match="00003-of-00003"):
        pick_model("r", held[:2], "bf16")
    with pytest.raises(BadFile, match="99999 parts"):
        pick_model("r", make_files("m-BF16-00001-of-99999.gguf"), "bf16")


@pytest.mark.parametrize(
    "path",
    [
        "../x.gguf",
        "a/../../x.gguf",
        "/etc/x.gguf",
        "a\\b.gguf",
        "C:x.gguf",
        "~/x",
        "a//b",
        "a\0b",
        "",
        "./a",
        "a/..",
    ],
)
def test_paths_that_could_leave_their_folder_are_refused(path: str) -> None:
    with pytest.raises(BadFile, match="unsafe path") as caught:
        check_paths("r", ["good.gguf", path])
    assert caught.value.hint


def test_ordinary_paths_are_fine() -> None:
    check_paths("r", ["a.gguf", ".gitattributes", "MTP/a b (1).gguf", "a..b.gguf", "Ünïcode.gguf"])


def test_the_files_of_a_checkpoint() -> None:
    held = make_files(
        "model-1.safetensors",
        "config.json",
        "x.gguf",
        "sub/config.json",
        "tokenizer.json",
        "a.py",
        "README.md",
    )
    names = [f.path for f in checkpoint_files("r", held)]
    assert names == ["README.md", "config.json", "tokenizer.json", "model-1.safetensors"]
    with pytest.raises(NotFound, match="no checkpoint"):
        checkpoint_files("r", make_files("config.json"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:a/b", ("a/b", "", "", None)),
        ("hf://a/b", ("a/b", "", "", None)),
        ("hf:a/b:Q6_K", ("a/b", "", "q6_k", None)),
        ("hf:a/b:ud-q4_k_xl", ("a/b", "", "ud-q4_k_xl", None)),
        ("hf:a/b@v1.0", ("a/b", "", "", "v1.0")),
        ("hf:a/b:q8_0@refs/pr/1", ("a/b", "", "q8_0", "refs/pr/1")),
        ("hf:a/b/x.gguf", ("a/b", "x.gguf", "", None)),
        ("hf:a/b/MTP/x.gguf@abc", ("a/b", "MTP/x.gguf", "", "abc")),
        ("hf:https://huggingface.co/a/b", ("a/b", "", "", None)),
        (
            "hf:https://huggingface.co/a/b/blob/main/x.gguf?download=true",
            ("a/b", "x.gguf", "", "main"),
        ),
        ("hf:https://hf.co/a/b/tree/main", ("a/b", "", "", "main")),
    ],
)
def test_addresses(text: str, expected: tuple[str, str, str, str | None]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["hf:", "hf:a", "hf:/a/b", "hf:a/..", "hf:../a", "hf:a/b@", "hf:a b/c", "hf:a/b.git"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="not an address"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("google/gemma-4-E2B-it", "hf:google/gemma-4-E2B-it"),
        ("a/b:q4_0", "hf:a/b:q4_0"),
        ("a/b@v1", "hf:a/b@v1"),
        ("https://huggingface.co/a/b", "hf:a/b"),
        ("http://HF.co/a/b", "hf:a/b"),
        ("huggingface.co/a/b", "hf:a/b"),
        ("hf.co/a/b", "hf:a/b"),
        ("hf.co/a/b:Q4_K_M", "hf:a/b:Q4_K_M"),
        ("https://huggingface.co/a/b:Q4_K_M@v1", "hf:a/b:Q4_K_M@v1"),
        ("https://huggingface.co/a/b/", "hf:a/b"),
        ("https://huggingface.co/a/b/tree/main/", "hf:a/b"),
        ("https://huggingface.co/a/b/tree/v2?show_file_info=x.gguf", "hf:a/b@v2"),
        ("https://huggingface.co/a/b/tree/refs%2Fpr%2F1", "hf:a/b@refs/pr/1"),
        ("https://huggingface.co/a/b/blob/main/My%20Model.gguf", "hf:a/b/My Model.gguf"),
        ("https://huggingface.co/a/b/blob/main/x.gguf", "hf:a/b/x.gguf"),
        ("https://huggingface.co/a/b/resolve/v2/d/x.gguf?download=true", "hf:a/b/d/x.gguf@v2"),
        ("hf:https://huggingface.co/a/b/tree/main", "hf:a/b"),
        ("hf:a/b/x.gguf:q4_0", "hf:a/b/x.gguf:q4_0"),
        ("e2b:q4_0", "e2b:q4_0"),
        ("./a/b", "./a/b"),
        ("a/b.gguf", "a/b.gguf"),
        ("a/b/c", "a/b/c"),
        ("/a/b", "/a/b"),
        ("here/model", "here/model"),
    ],
)
def test_what_means_the_hub(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "model").mkdir(parents=True)
    assert as_address(text) == expected


def test_other_places_of_the_web_are_refused() -> None:
    with pytest.raises(UsageError, match="not an address on the hub"):
        as_address("https://example.com/m.gguf")
