"""A server that was started again, and slots that others used: prompts are not read twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from openai import OpenAI

from tests.support.builders.tiny_file import build_tiny
from tests.support.run.server import RunningServer, run_server, tiny_options


def count_cached(server: RunningServer, subject: str) -> int:
    """Ask about a long text on `subject`; return how many tokens were not read again."""
    text = " ".join(f"{subject} {number} is here." for number in range(60))
    with OpenAI(base_url=server.openai_url, api_key="none", max_retries=0) as client:
        done = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": text}], max_tokens=4
        )
    assert done.usage is not None
    assert done.usage.prompt_tokens_details is not None
    return done.usage.prompt_tokens_details.cached_tokens or 0


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("G4_HOME", str(tmp_path))
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    return path


@pytest.mark.slow
def test_a_server_that_starts_again_knows_its_prompts(model: Path) -> None:
    found = []
    for n_parallel in (2, 3):  # a state fits whatever the number of slots is
        with run_server(tiny_options(model, parallel=n_parallel)) as server:
            found.append(count_cached(server, "apple"))
    assert found[0] == 0
    assert found[1] > 128


@pytest.mark.slow
def test_a_conversation_whose_slot_others_took_comes_back_from_memory(model: Path) -> None:
    options = tiny_options(model, parallel=2, state_cache="off")
    with run_server(options) as server:
        first = [count_cached(server, subject) for subject in ("apple", "river", "stone")]
        again = count_cached(server, "apple")
    assert max(first) < 64
    assert again > 128
    assert not (model.parent / "cache/states").exists()
