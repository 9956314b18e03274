"""Other configurations of llama.cpp and other prompt formats, on engines with one fault each."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.doctor.diagnose import diagnose_file
from g4cli.doctor.probe.answers import find_early_loop
from g4cli.doctor.probe.child import GreedyRun, ProbeResult
from g4cli.doctor.probe.compare import ALTERNATIVE_CONFIGS, compare_configs, compare_run
from g4cli.doctor.probe.prompts import (
    FILE_TEMPLATE,
    PLAIN_TEXT,
    Question,
    plain_text_questions,
    render_chat_questions,
    render_template_questions,
)
from g4cli.doctor.report import Report
from tests.support.builders.damage import GGUF, value
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.engine_faults import FAULTS, N_VOCAB, Engine, EngineFault, always, in_turns

BASE = GreedyRun("Hi", (5, 6, 7, 8), "abcd", (0.9,) * 4, -9.0, 9.0, 0, 0.0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("variants") / "tiny.gguf"
    path.write_bytes(build_tiny())
    return path


def examine_with(
    path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, depth: str = "default"
) -> Report:
    monkeypatch.setattr("g4cli.doctor.probe.child.ask_child", engine)
    return diagnose_file(path, depth=depth, only=("probe",))  # type: ignore[arg-type]


@pytest.mark.slow_except(
    "gpu-loops", "gpu-dies", "gpu-nan", "gpu-other-answer", "dies-with-flash", "repacked-differs"
)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_each_fault_of_an_engine_gets_the_right_verdict(
    fault: EngineFault, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = examine_with(tiny, Engine(fault), monkeypatch, fault.depth)
    assert report.verdict in fault.verdicts, report.evidence
    assert report.exit_code == (0 if report.verdict == "not-checked" else 8)


@pytest.mark.slow
def test_a_sound_engine_is_asked_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    report = examine_with(tiny, engine, monkeypatch)
    assert report.verdict == "not-checked"
    assert len(engine.requests) == 1
    engine = Engine()
    examine_with(tiny, engine, monkeypatch, "deep")
    assert len(engine.requests) == 1 + len([c for c in ALTERNATIVE_CONFIGS if not c.needs_gpu]) + 1


def test_a_gpu_is_tried_without_being_asked_for(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(EngineFault("none", lambda _o, _p: False, "loop", ("healthy",), True))
    report = examine_with(tiny, engine, monkeypatch)
    assert [r["options"].get("n_gpu_layers") for r in engine.requests] == [None, 999]
    assert (
        "the same answer with the GPU" in {f.id: f.found for f in report.findings}["probe.configs"]
    )


def test_a_gpu_that_fails_is_named_with_a_workaround(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = examine_with(tiny, Engine(FAULTS[0]), monkeypatch)
    assert "with the GPU the answer is broken" in report.evidence[0]
    assert "--gpu-layers 0" in report.fix


def test_a_crash_in_one_configuration_alone_is_named(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = next(f for f in FAULTS if f.name == "dies-with-flash")
    report = examine_with(tiny, Engine(fault), monkeypatch)
    assert (
        "with flash attention off the answer is sound, and with the usual configuration it is not"
        in report.evidence[0]
    )
    fault = next(f for f in FAULTS if f.name == "dies-at-once")
    report = examine_with(tiny, Engine(fault), monkeypatch)
    assert (report.verdict, report.confidence) == ("runtime", "medium")
    assert (
        "it also crashes with flash attention off"
        in {f.id: f.found for f in report.findings}["probe.configs"]
    )


@pytest.mark.slow
def test_an_answer_in_the_format_of_the_files_template(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If only the prompt that the file's template makes fails, the template is at fault."""
    file = GGUF(tiny.read_bytes())
    turn = "<|turn>{{ m.role }}\n{{ m.content }} !<turn|>\n"
    odd = "{{ bos_token }}{% for m in messages %}" + turn + "{% endfor %}<|turn>model"
    file.keys["tokenizer.chat_template"] = value("str", odd)
    path = tmp_path / "odd.gguf"
    path.write_bytes(file.encode())
    rendered = render_template_questions("tiny", odd)
    assert rendered[0].text == "<bos><|turn>user\nHello !<turn|>\n<|turn>model"
    own = {a.text for a in render_chat_questions("tiny")}
    theirs = {a.text: a.expected for a in rendered}
    fails = EngineFault("file's template", lambda _o, p: p in theirs, "loop", ())
    report = examine_with(path, Engine(fails, theirs), monkeypatch, "deep")
    assert (report.verdict, report.fix.split(" (")[0]) == (
        "template",
        f"g4 doctor {path} --fix odd-repaired.gguf",
    )
    fails = EngineFault("g4's format", lambda _o, p: p in own, "loop", ())
    report = examine_with(path, Engine(fails, theirs), monkeypatch)
    assert report.verdict == "template"
    assert "sound with the file's own template and fail with Gemma 4's" in report.evidence[0]


def test_a_base_model_is_asked_in_plain_text(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = GGUF(tiny.read_bytes())
    file.keys["general.name"] = value("str", "Base")
    file.keys["gemma4.block_count"] = value("u32", 9)  # no size that g4 knows
    del file.keys["tokenizer.chat_template"]
    path = tmp_path / "base.gguf"
    path.write_bytes(file.encode())
    engine = Engine(EngineFault("turns", in_turns, "loop", ()))
    report = examine_with(path, engine, monkeypatch, "deep")
    assert {f.id: f.status for f in report.findings}["probe.loop"] == "ok"
    assert all("<|turn>" not in prompt for r in engine.requests for prompt in r["prompts"])


@pytest.mark.slow
def test_a_base_model_with_a_chat_template_is_no_damage(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = GGUF(tiny.read_bytes())
    file.keys["general.name"] = value("str", "Base")
    file.keys["gemma4.block_count"] = value("u32", 9)
    path = tmp_path / "base.gguf"
    path.write_bytes(file.encode())
    report = examine_with(path, Engine(EngineFault("turns", in_turns, "loop", ())), monkeypatch)
    assert report.verdict == "template"
    assert "this is a pre-trained model, not a chat model" in report.evidence[0]


def test_a_second_copy_of_the_weights_must_fit(tiny: Path) -> None:
    base = ProbeResult((BASE,), n_vocab=N_VOCAB)
    repacked = [c for c in ALTERNATIVE_CONFIGS if c.copies_weights and not c.needs_gpu]
    (found,) = compare_configs(
        tiny, [Question("Hi", "Hi", "x")], base, repacked, free_bytes=10 << 20
    )
    assert "does not fit" in found.untried
    assert not found.differs


@pytest.mark.parametrize(
    ("tokens", "sureness", "same", "differs"),
    [
        ((5, 6, 7, 8), 0.9, 4, False),
        ((5, 9, 7, 8), 0.9, 1, True),
        ((5, 9, 7, 8), 0.5, 1, False),
        ((5, 6), 0.9, 2, True),
        ((), 0.9, 0, False),
    ],
)
def test_where_answers_part(
    tokens: tuple[int, ...], sureness: float, same: int, differs: bool
) -> None:
    run = GreedyRun("Hi", tokens, "", (sureness,) * (len(tokens) + 1), -9.0, 9.0, 0, 0.0)
    if not tokens:
        run = GreedyRun("Hi", (), "", (), -9.0, 9.0, 0, 0.0)
    found = compare_run(ALTERNATIVE_CONFIGS[1], BASE, ProbeResult((run,)))
    assert (found.n_same, found.differs) == (same, differs)


def test_a_loop_that_the_shorter_answer_cannot_show_is_no_difference() -> None:
    long = GreedyRun("Hi", (5, 6, 7) * 10, "abc" * 10, (0.9,) * 30, -9.0, 9.0, 0, 0.0)
    short = GreedyRun(
        "Hi", (5, 6, 7) * 5 + (5,), "abc" * 5 + "a", (0.9,) * 16, -9.0, 9.0, 0, 0.0, False
    )
    assert find_early_loop(long)
    assert not find_early_loop(short)
    assert not compare_run(ALTERNATIVE_CONFIGS[1], long, ProbeResult((short,))).differs


def test_plain_text_questions_are_the_answers_of_the_bundled_model() -> None:
    for asked in plain_text_questions("tiny"):
        assert asked.text == "<bos>" + asked.name
        assert "<|" not in asked.name
    assert [a.expected for a in plain_text_questions("31b")] == ["paris", "seven", "friday"]
    assert render_chat_questions("31b")[0].text.endswith(
        "<|turn>model\n<|channel>thought\n<channel|>"
    )
    assert render_chat_questions("e2b")[0].text.endswith("<|turn>model\n")


@pytest.mark.slow
def test_the_formats_are_named_in_the_report(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = examine_with(tiny, Engine(EngineFault("all", always, "loop", ())), monkeypatch)
    found = {f.id: f.found for f in report.findings}
    assert (
        found["probe.formats"] == f"{PLAIN_TEXT} fail in the same way: the template is not at fault"
    )
    assert FILE_TEMPLATE not in found["probe.formats"]
