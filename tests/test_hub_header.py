"""The header of a file on a (loopback) hub: read by ranges, no byte of the weights, faults survived."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_shapes
import shapes
from builders import build_gguf
from fakes_hub import FakeHub, FakeRepo, Fault, running

from g4cli.cli.main import run
from g4cli.core.errors import BadGGUF, NetworkError
from g4cli.core.gguf import read_header
from g4cli.core.shape import shape_of
from g4cli.hub.client import Hub
from g4cli.hub.header import remote_header

REPO = "someone/gemma-4-tiny-GGUF"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return tiny's shape behind a header of more than one piece."""
    path = tmp_path_factory.mktemp("hub") / "tiny-Q8_0.gguf"
    vocabulary = real_shapes.synthetic_vocabulary(30_000)
    return real_shapes.build(path, "tiny", shapes.TINY, "q8_0", vocabulary=vocabulary)


@pytest.fixture
def hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    files = {model.name: model.read_bytes(), "bad-BF16.gguf": b"not a model" * 100}
    files["other-F16.gguf"] = build_gguf([("general.architecture", "str", "llama")])
    state = FakeHub(repos={REPO: FakeRepo(lfs=files)})
    with running(state):
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


def header_of(name: str) -> object:
    client = Hub()
    repository = client.repository(REPO)
    return remote_header(client, repository, next(f for f in repository.files if f.path == name))


def test_the_header_equals_the_local_one_and_weights_stay_there(hub: FakeHub, model: Path) -> None:
    local, remote = read_header(model), header_of(model.name)
    assert remote.keys == local.keys  # type: ignore[attr-defined]
    assert remote.tensors == local.tensors  # type: ignore[attr-defined]
    assert shape_of(remote) == shapes.TINY  # type: ignore[arg-type]
    assert len(hub.ranges) > 1
    assert local.data_offset <= max(end for _, end in hub.ranges) + 1
    assert sum(end - start for start, end in hub.ranges) <= local.data_offset + (1 << 20)


def test_broken_connections_are_tried_again(hub: FakeHub, model: Path) -> None:
    hub.faults = [Fault("reset", after=1000), Fault("status", status=503)]
    assert header_of(model.name).tensors == read_header(model).tensors  # type: ignore[attr-defined]
    hub.faults = [Fault("status", status=503)] * 5
    with pytest.raises(NetworkError, match="header cannot be read"):
        header_of(model.name)


@pytest.mark.usefixtures("hub")
def test_a_file_that_is_no_gguf() -> None:
    with pytest.raises(BadGGUF, match="not a GGUF"):
        header_of("bad-BF16.gguf")


@pytest.mark.usefixtures("hub")
def test_fit_before_pull(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", f"hf:{REPO}:q8_0", "--ctx", "1k", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["model"] == f"hf:{REPO}/tiny-Q8_0.gguf"
    assert data["source"] == "the header on the hub"
    assert data["kv_bytes"] == (4 * 768 * 64 + 1 * 1024 * 128) * 2 * 2


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("hf:someone/missing", 3, "missing"),
        (f"hf:{REPO}/none.gguf", 3, "no file none.gguf"),
        (f"hf:{REPO}:f16", 5, "architecture 'llama'"),
        ("hf:no", 2, "not an address"),
    ],
)
def test_what_cannot_be_answered(
    address: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fit", address]) == code
    assert words in capsys.readouterr().err


def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert run(["fit", f"hf:{REPO}"]) == 6
    assert "error:" in capsys.readouterr().err
