"""Which experiments are run, and what follows: simulated engines that loop under known conditions.

The simulated engine answers at once; what is tested is that the search finds its conditions with
few questions, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.errors import BadFile
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import Header
from g4cli.doctor.loop.conclusion import Conclusion, draw_conclusion
from g4cli.doctor.loop.outcome import LoopResult, Repetition, find_repetition, is_garbage
from g4cli.doctor.loop.prompt import make_writer
from g4cli.doctor.loop.report import LoopDiagnosis, write_loop_report
from g4cli.doctor.loop.search import LoopChoices, propose_experiments
from g4cli.doctor.loop.settings import (
    DEFAULTS,
    FACTORS,
    LoopSettings,
    describe_settings,
    describe_value,
    find_condition,
)
from tests.support.builders.gguf import write_gguf
from tests.support.builders.other_kinds import MATRIX, foreign_keys

GPU = LoopChoices(gpus=("Vulkan0",))


def run_search(
    loops: Callable[[LoopSettings], bool], choices: LoopChoices = GPU
) -> tuple[Conclusion, list[LoopResult]]:
    results: list[LoopResult] = []
    while plan := propose_experiments(results, choices):
        found = Repetition(2, 0) if loops(plan[0]) else None
        results.append(LoopResult(plan[0], "loop" if found else "ended", 64, repetition=found))
        assert len(results) < 60
    return draw_conclusion(results), results


CASES: tuple[tuple[Callable[[LoopSettings], bool], set[tuple[str, Any]], str], ...] = (
    (lambda _: True, set(), "damaged-file"),
    (lambda s: not s.bos, {("bos", False)}, "bos-missing"),
    (lambda s: s.tools, {("tools", True)}, "tools-collapse"),
    (lambda s: s.schema, {("schema", True)}, "constrained-collapse"),
    (lambda s: s.thinking, {("thinking", True)}, ""),
    (lambda s: not s.own_format, {("own_format", False)}, "template-missing"),
    (lambda s: not s.sampled, {("sampled", False)}, "greedy-collapse"),
    (lambda s: s.drafting, {("drafting", True)}, "drafting"),
    (lambda s: not s.flash_attention, {("flash_attention", False)}, ""),
    (lambda s: s.flash_attention, {("flash_attention", True)}, ""),
    (lambda s: s.n_ubatch > 32, {("n_ubatch", 512)}, ""),
    (lambda s: s.kv_type != "f16", {("kv_type", "q8_0")}, "kv-quantized"),
    (lambda s: s.kv_type == "f16", {("kv_type", "f16")}, ""),
    (lambda s: not s.rotation, {("rotation", False)}, ""),
    (lambda s: s.device == "Vulkan0", {("device", "Vulkan0")}, "vulkan-mmvq"),
    (lambda s: s.device == "", {("device", "")}, ""),
    (lambda s: s.n_context >= 200, {("n_context", 200)}, "long-context-collapse"),
    (lambda s: s.n_context >= 1200, {("n_context", 1200)}, "long-context-collapse"),
    (lambda s: s.n_context >= 4000, {("n_context", 4000)}, "long-context-collapse"),
    (
        lambda s: s.kv_type == "q4_0" and s.n_context >= 1200,
        {("kv_type", "q4_0"), ("n_context", 1200)},
        "kv-quantized-long",
    ),
    (
        lambda s: s.kv_type == "q8_0" and s.n_context >= 4000,
        {("kv_type", "q8_0"), ("n_context", 4000)},
        "kv-quantized-long",
    ),
    (
        lambda s: s.schema and s.n_context >= 1200,
        {("schema", True), ("n_context", 1200)},
        "constrained-collapse",
    ),
    (
        lambda s: s.device != "" and s.n_context >= 1200,
        {("device", "Vulkan0"), ("n_context", 1200)},
        "vulkan-mmvq",
    ),
    (
        lambda s: not s.sampled and s.flash_attention,
        {("sampled", False), ("flash_attention", True)},
        "greedy-collapse",
    ),
)


@pytest.mark.parametrize(("loops", "conditions", "cause"), CASES)
def test_the_smallest_set_of_conditions_is_found(
    loops: Callable[[LoopSettings], bool], conditions: set[tuple[str, Any]], cause: str
) -> None:
    found, _ = run_search(loops)
    assert found.loops
    assert found.conditions is not None
    assert {(c.factor, c.value) for c in found.conditions} == conditions
    assert (found.causes[0].id if found.causes else "") == cause


def test_a_sound_model_is_asked_under_all_conditions() -> None:
    found, results = run_search(lambda _: False)
    assert (found.loops, found.conditions, found.causes) == (False, (), ())
    changed = {factor for result in results for factor, _ in result.settings.list_changes()}
    assert changed == set(FACTORS)


@pytest.mark.parametrize(
    ("loops", "most"),
    [(lambda s: not s.bos, 8), (lambda s: s.tools, 8), (lambda _: True, 18)],
)
def test_the_search_ends_early(loops: Callable[[LoopSettings], bool], most: int) -> None:
    """The plan of the prompt is not cut, the configurations of llama.cpp are."""
    assert len(run_search(loops)[1]) <= most


def test_prompts_are_changed_before_a_file_is_loaded_again() -> None:
    plan = propose_experiments([], GPU)
    engines = [settings.engine for settings in plan]
    n_first = next(i for i, engine in enumerate(engines) if engine != engines[0])
    assert plan[0] == LoopSettings()
    assert n_first >= 7


def test_what_a_file_does_not_have_is_not_varied() -> None:
    choices = LoopChoices(300, has_bos=False, thinks=False, takes_tools=False, other_format=False)
    plan = propose_experiments([], choices)
    changed = {change for settings in plan for change in settings.list_changes()}
    assert ("n_context", 200) in changed
    assert ("n_context", 1200) not in changed
    assert not {name for name, _ in changed} & {"bos", "thinking", "tools", "own_format", "device"}


def test_a_loop_that_any_change_ends_is_chance() -> None:
    found, _ = run_search(lambda s: s == LoopSettings())
    assert found.conditions is None
    assert [cause.id for cause in found.causes] == ["greedy-collapse"]


def test_what_explains_one_of_many_loops_is_no_condition() -> None:
    """So SmolLM2-135M does: the only answer without flash attention was one of eight loops."""

    def loops(s: LoopSettings) -> bool:
        is_left_by = s.sampled or not s.bos or (s.kv_type == "q4_0" and s.rotation)
        return s.n_context >= 200 and not is_left_by

    found, results = run_search(loops)
    assert any(not result.settings.flash_attention and result.is_bad for result in results)
    assert found.conditions is None
    assert [cause.id for cause in found.causes] == ["greedy-collapse"]


def test_crashes_prove_no_loop() -> None:
    results = [LoopResult(LoopSettings(), "failed", reason="SIGSEGV")]
    assert draw_conclusion(results).loops is False


@pytest.mark.parametrize(("n_skipped", "n_left"), [(20, 0), (0, 20), (12, 8)])
def test_experiments_that_were_not_run_prove_nothing(n_skipped: int, n_left: int) -> None:
    good = LoopResult(LoopSettings(), "ended")
    late = LoopResult(LoopSettings(bos=False), "skipped", reason="no time left")
    found = draw_conclusion([good, *[late] * n_skipped], n_left)
    assert (found.loops, found.n_run, found.n_not_run) == (False, 1, 20)
    assert found.text == "1 of 21 experiments was run, and none shows a loop"
    assert draw_conclusion([good]).text == "no experiment makes the model repeat itself"


def test_a_loop_accuses_nobody_while_what_may_end_it_was_not_run() -> None:
    bad = LoopResult(LoopSettings(), "loop", repetition=Repetition(18, 0))
    late = LoopResult(LoopSettings(sampled=True), "skipped", reason="no time left")
    found = draw_conclusion([bad, late])
    assert (found.loops, found.causes) == (True, ())
    assert found.text == ("1 of 2 experiments was run, and the model repeats itself in all of them")
    assert [cause.id for cause in draw_conclusion([bad]).causes] == ["damaged-file"]


def test_a_length_that_loops_alone_is_said_exactly() -> None:
    good = [LoopResult(LoopSettings(n_context=n), "ended") for n in (0, 200, 4000)]
    bad = LoopResult(LoopSettings(n_context=1200), "loop", repetition=Repetition(1, 0))
    (condition,) = draw_conclusion([*good, bad]).conditions or ()
    assert condition.text == "1,200 tokens of context"


def test_every_value_can_be_said() -> None:
    for settings in propose_experiments([], GPU):
        assert describe_settings(settings)
        for factor in FACTORS:
            assert describe_value(factor, getattr(settings, factor))
            find_condition(factor, getattr(settings, factor))
    assert all(describe_value(name, value) for name, value in DEFAULTS.items())


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        ([7] * 64, Repetition(1, 0)),
        ([7] * 63, None),
        ([1, 2, 3] + [7, 8] * 40, Repetition(2, 3)),
        (list(range(50)) * 4, Repetition(50, 0)),
        (list(range(50)) * 3, None),
        (list(range(300)), None),
        ([], None),
    ],
)
def test_a_cycle_at_the_end_is_found(tokens: list[int], found: Repetition | None) -> None:
    assert find_repetition(tokens) == found


def test_tokens_without_text_are_garbage() -> None:
    assert is_garbage("<unused24><unused49>" * 8, 16)
    assert is_garbage("<pad>" * 20, 20)
    assert not is_garbage("A lighthouse <unused1> stands on a rock by the sea.", 16)


def test_what_a_template_refuses_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_tools(_template: str, _header: Header, cases: list[dict[str, Any]]) -> list[str]:
        if cases[0]["tools"]:
            raise BadFile("the chat template fails: no tools")
        return [f"think {cases[0]['enable_thinking']}"]

    monkeypatch.setattr("g4cli.doctor.loop.prompt.render_cases", refuse_tools)
    header = read_header(write_gguf(tmp_path / "m.gguf", foreign_keys("llama"), [MATRIX]))
    choices = make_writer(header, "", "Why?").list_choices(2048, 384, ())
    assert (choices.takes_tools, choices.thinks, choices.other_format) == (False, True, True)


def test_the_report_has_no_folders_and_no_markup_of_the_file() -> None:
    bad = LoopResult(
        LoopSettings(tools=True), "loop", 64, 1.0, "|x|", Repetition(2, 0), "<img> | @someone\n"
    )
    results = (LoopResult(LoopSettings(), "ended", 9, 0.5, "Hi"), bad)
    path, conclusion = "/home/somebody/secret/model.gguf", draw_conclusion(results)
    text = write_loop_report(
        LoopDiagnosis(path, "a|b?", results, conclusion, "llama.cpp 1", 1.5, 60.0)
    )
    assert text.startswith("# g4 doctor: experiments on a loop")
    assert "secret" not in text
    assert "`<img> \\| @someone" in text
    assert "tools declared" in text
    assert "Prompt: `a|b?`." in text
