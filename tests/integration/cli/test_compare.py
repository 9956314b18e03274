"""`g4 compare` with the bundled model and an OpenAI-style server."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import g4cli.host
from g4cli.operations.compare.answerers import RemoteAnswerer
from tests.support.builders.media_files import picture, png
from tests.support.fakes.endpoint import Answer, FakeEndpoint, refuse, run_endpoint, stream_text
from tests.support.run.command import g4, ok, run
from tests.support.schemas import validate_output

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="4" height="4"/></svg>'
BROKEN = SVG.replace("<rect", '<rect width="4"')
ANSWERS = {
    "cat": f"Here:\n```svg\n{SVG}\n```",
    "dog": BROKEN,
    "sum": "It is 4.",
    "json": '```json\n{"n": 1}\n```',
}
PROMPTS = [
    {"id": "cat", "kind": "svg", "prompt": "Draw a cat."},
    {"id": "dog", "kind": "svg", "prompt": "Draw a dog."},
    {"id": "sum", "prompt": "What is 2 + 2? It is a sum.", "expected": "4"},
    {"id": "json", "prompt": "Give json.", "schema": {"required": ["n"], "type": "object"}},
]


def answer_by_prompt(body: dict[str, Any]) -> Answer:
    text = body["messages"][-1]["content"]
    return stream_text(next(answer for word, answer in ANSWERS.items() if word in text))


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    run(["pull", "tiny", "--quiet"])
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return path


def remote(fake: FakeEndpoint, settings: str = "") -> str:
    return f"openai:{fake.url}#m{settings}"


@pytest.mark.slow
def test_a_local_and_a_remote_model_answer_the_same_prompts(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_endpoint(answer_by_prompt) as fake:
        command = ["compare", "--prompts", prompts, "-m", "tiny@temp=0", "-m", remote(fake)]
        command += ["-n", "2", "--max-tokens", "30"]
        document = ok(capsys, *command)
        n_asked = len(fake.bodies)
        again = ok(capsys, *command)
    validate_output(document, "compare")
    assert document["run"]["complete"]
    assert n_asked == len(fake.bodies) == 8, "answers that are there are not asked for again"
    assert again["prompts"] == document["prompts"]
    assert {body["seed"] for body in fake.bodies} == {1, 2}
    local, far = document["models"]
    assert len(local["facts"]["identity"]) == 64
    assert len(local["facts"]["llama_cpp_sha256"]) == 64
    assert local["facts"]["n_ctx"] == 2048
    assert local["facts"]["fit_bytes"] > local["facts"]["bytes"]
    if sys.platform == "linux":
        assert local["facts"]["peak_bytes"] > local["facts"]["bytes"]
    assert local["summary"]["first_s"] > 0
    shares = {name: s["count"] for name, s in far["summary"]["shares"].items()}
    assert shares == {
        "correct": 2, "valid": 2, "drawing found": 4, "opens as it came": 2,
        "opens after repair": 4, "not blank": 4, "flawless as it came": 2,
        "flawless after repair": 4, "loops": 0, "cut off": 0,
    }  # fmt: skip
    (fault,) = far["summary"]["faults"]
    assert (fault["rule"], fault["drawings"], fault["repaired"]) == ("duplicate-attribute", 2, 2)
    page = Path("compare.html").read_text()
    assert page.count("data:image/svg+xml;base64,") >= 4
    assert local["facts"]["identity"] in page
    code, out, _ = g4(capsys, *command, "--md")
    assert code == 0
    assert "| opens as it came |" in out


@pytest.mark.slow
def test_a_run_that_fails_half_way_continues_where_it_was(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [3]

    def fail_later(body: dict[str, Any]) -> Answer:
        left[0] -= 1
        return answer_by_prompt(body) if left[0] >= 0 else refuse(404, "gone")

    with run_endpoint(fail_later) as fake:
        command = ["compare", "--prompts", prompts, "-m", remote(fake, "@parallel=1")]
        code, out, err = g4(capsys, *command)
        assert code == 0
        assert "gone" in err
        assert "3 of 4" in out
        assert "results are missing" in err
        left[0] = 99
        document = ok(capsys, *command)
    assert document["run"]["complete"]
    assert len(fake.bodies) == 5


@pytest.mark.slow
def test_an_error_costs_no_answer_that_is_under_way(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    under_way = threading.Barrier(2, timeout=60)

    def fail_first(body: dict[str, Any]) -> Answer:
        if "cat" in body["messages"][-1]["content"]:
            under_way.wait()
            return refuse(404, "gone")
        if "dog" in body["messages"][-1]["content"]:
            under_way.wait()
            time.sleep(0.3)  # longer than the refusal takes
        return answer_by_prompt(body)

    with run_endpoint(fail_first) as fake:
        command = ["compare", "--prompts", prompts, "--limit", "2"]
        code, out, err = g4(capsys, *command, "-m", remote(fake, "@parallel=2"))
    assert code == 0
    assert "gone" in err
    assert "1 of 2" in out


def test_ctrl_c_keeps_the_answers_and_the_report(
    prompts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = RemoteAnswerer.answer

    def interrupt(self: RemoteAnswerer, prompt: Any, seed: int) -> Any:
        if prompt.id == "sum":
            raise KeyboardInterrupt
        return answer(self, prompt, seed)

    monkeypatch.setattr(RemoteAnswerer, "answer", interrupt)
    with run_endpoint(answer_by_prompt) as fake:
        code, out, _ = g4(capsys, "compare", "--prompts", prompts, "-m", remote(fake))
        assert code == 130
        assert "2 of 4" in out
        assert "Results are missing" in Path("compare.html").read_text()
        monkeypatch.setattr(RemoteAnswerer, "answer", answer)
        document = ok(capsys, "compare", "--prompts", prompts, "-m", remote(fake))
    assert document["run"]["complete"]
    assert len(fake.bodies) == 4


@pytest.mark.slow
def test_a_model_that_does_not_fit_is_not_loaded(
    prompts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = g4cli.host.read_host()
    monkeypatch.setattr(
        "g4cli.host.read_host", lambda: replace(host, total_bytes=1 << 20, available_bytes=1 << 20)
    )
    monkeypatch.setattr("g4cli.runtime.engine.client.EngineClient.open", lambda *_: 1 / 0)
    models = ["-m", "nonsense", "-m", "tiny", "-m"]
    with run_endpoint(answer_by_prompt) as fake:
        code, out, err = g4(capsys, "compare", "--prompts", prompts, *models, remote(fake))
    assert code == 0
    assert "nonsense" in err
    assert "does not fit into memory" in err
    assert "does not fit into memory" in Path("compare.html").read_text()
    assert "4 of 4" in out
    assert g4(capsys, "compare", "Hi", "-m", "tiny", "-o", "other.html")[0] == 4
    assert g4(capsys, "compare", "Hi", "-m", "nonsense", "-o", "other.html")[0] == 3


@pytest.mark.slow
def test_what_is_expected_can_change_without_asking_again(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_endpoint(answer_by_prompt) as fake:
        command = ["compare", "--prompts", prompts, "-m", remote(fake)]
        ok(capsys, *command)
        prompts.write_text(prompts.read_text().replace('"expected": "4"', '"expected": "5"'))
        document = ok(capsys, *command)
    assert document["models"][0]["summary"]["shares"]["correct"]["count"] == 0
    assert len(fake.bodies) == 4


@pytest.mark.slow
def test_an_image_is_sent_to_a_server_and_belongs_to_the_answer(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = prompts.parent / "photo.png"
    image.write_bytes(png(picture(8, 8)))
    prompts.write_text(json.dumps({"id": "p", "prompt": "sum it", "image": "photo.png"}))
    with run_endpoint(lambda _: stream_text("a photo")) as fake:
        command = ["compare", "--prompts", prompts, "-m", remote(fake)]
        ok(capsys, *command)
        image.write_bytes(png(picture(9, 9)))
        ok(capsys, *command)
    part, text = fake.bodies[0]["messages"][0]["content"]
    assert part["image_url"]["url"].startswith("data:image/png;base64,")
    assert text == {"type": "text", "text": "sum it"}
    assert len(fake.bodies) == 2, "another image is another question"


def test_the_system_prompt_may_be_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("brief.txt").write_text("Be brief, please.")
    with run_endpoint(lambda _: stream_text("Yes.")) as fake:
        ok(capsys, "compare", "Hi", "-m", remote(fake), "--system", "@brief.txt")
    (body,) = fake.bodies
    assert body["messages"][0] == {"role": "system", "content": "Be brief, please."}


@pytest.mark.slow
def test_only_a_preference_that_survives_the_swap_counts(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def judge(body: dict[str, Any]) -> Answer:
        text = body["messages"][-1]["content"]
        if "Draw" in text:
            return stream_text("1")  # always the first
        first = re.search(r"<answer-1>\n(.*?)\n</answer-1>", text, re.DOTALL)
        assert first
        return stream_text("1" if first[1].startswith("good") else "2")

    with (
        run_endpoint(lambda _: stream_text("good")) as good,
        run_endpoint(lambda _: stream_text("poor")) as poor,
        run_endpoint(judge) as judging,
    ):
        command = ["compare", "--prompts", prompts, "-m", remote(good), "-m", remote(poor)]
        command += ["--judge", remote(judging)]
        document = ok(capsys, *command)
        ok(capsys, *command)
    validate_output(document, "compare")
    winners = {opinion["prompt"]: opinion["winner"] for opinion in document["opinions"]}
    assert winners == {"cat": "tie", "dog": "tie", "sum": remote(good), "json": remote(good)}
    assert document["models"][0]["wins"]["count"] == 2
    assert document["models"][1]["wins"]["ties"] == 2
    assert document["run"]["judge_identity"] == f"{judging.url}#m"
    assert f"{judging.url}#m" in Path("compare.html").read_text()
    assert len(judging.bodies) == 8
    assert judging.bodies[0]["temperature"] == 0
    assert "opinions of a model, not measurements" in Path("compare.html").read_text()


@pytest.mark.slow
def test_types_of_a_model_are_evaluated_and_drawn(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["pull", "tiny:q4_0", "--quiet"])
    text = prompts.parent / "text.txt"
    text.write_text("Q4_0 stores 32 weights in 18 bytes. " * 20)
    command = ["compare", "--types", "bf16,q4_0,q6_k", "tiny", "--text", text]
    document = ok_with_warning(capsys, *command)
    validate_output(document, "compare")
    large, small, missing = (model["quality"] for model in document["models"])
    assert missing is None
    assert document["models"][2]["problem"]
    assert large["bytes"] > small["bytes"]
    page = Path("compare.html").read_text()
    for sha256 in (large["identity"], large["llama_cpp_sha256"], large["text_sha256"]):
        assert len(sha256) == 64
        assert sha256 in page
    assert large["perplexity"] != small["perplexity"]
    assert 'aria-label="Perplexity against size and speed"' in Path("compare.html").read_text()
    assert ok_with_warning(capsys, *command)["models"][0]["quality"] == large


@pytest.mark.slow
def test_two_unclear_verdicts_are_a_tie(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        run_endpoint(answer_by_prompt) as one,
        run_endpoint(answer_by_prompt) as other,
        run_endpoint(lambda _: stream_text("I cannot decide.")) as judging,
    ):
        command = ["compare", "--prompts", prompts, "-m", remote(one), "-m", remote(other)]
        document = ok(capsys, *command, "--judge", remote(judging))
    assert {opinion["winner"] for opinion in document["opinions"]} == {"tie"}


def ok_with_warning(capsys: pytest.CaptureFixture[str], *command: str | Path) -> Any:
    code, out, err = g4(capsys, *command, "--json")
    assert code == 0
    assert "warning" in err
    return json.loads(out)


@pytest.mark.slow
def test_a_file_that_is_not_a_report_is_refused_before_anything_is_asked(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("compare.html").write_text("mine")
    code, _, err = g4(capsys, "compare", "--prompts", prompts, "-m", "tiny")
    assert code == 2
    assert "not a report" in err
    assert Path("compare.html").read_text() == "mine"
