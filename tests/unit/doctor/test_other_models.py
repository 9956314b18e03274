"""What tells a model of another architecture with damaged weights from one that is small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from g4cli.doctor.checks.any_model.probe import check_logits_range, check_prediction, is_suspicious
from g4cli.doctor.checks.weights import check_norms
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.probe.child import GreedyRun, ProbeResult

# Of SmolLM2-135M as published, in bits: the entropy of its answers, and what it needs for a token
# of plain English.
ENTROPY, SURPRISE, SPREAD = 2.69, 2.6, 62.0


def facts_of(
    *, surprise: float | None = SURPRISE, spread: float = SPREAD, **more: Any
) -> FileFacts:
    run = GreedyRun("p", (5, 6), "a b", (0.5, 0.5), 0.0, spread, 0, 0.0, False, (ENTROPY, ENTROPY))
    probe = ProbeResult((run,), n_vocab=49_152, surprise=surprise)
    return FileFacts("m.gguf", 1, b"", kind="other-model", probe=probe, expected=("a",), **more)


def test_a_sound_model_predicts_plain_english() -> None:
    outcome = check_prediction(facts_of())
    assert outcome.status == "ok"
    assert "plain English is predicted with 2.6 bits" in outcome.found
    assert check_prediction(facts_of(surprise=None)).status == "ok"
    assert not is_suspicious(facts_of())


# Measured with damaged copies of it: all norms larger by 1, data shifted by 32 bytes, norms of 1.
@pytest.mark.parametrize("surprise", [27.2, 31.8, 17.4])
def test_who_predicts_text_worse_than_by_chance_is_broken(surprise: float) -> None:
    outcome = check_prediction(facts_of(surprise=surprise))
    assert (outcome.status, outcome.cause) == ("fail", "conversion-defect")
    assert "worse than a random guess (15.6)" in outcome.found
    assert is_suspicious(facts_of(surprise=surprise))


def test_logits_that_leave_no_choice_are_a_defect() -> None:
    assert check_logits_range(facts_of()).status == "ok"
    outcome = check_logits_range(facts_of(spread=54_009.3))
    assert (outcome.status, outcome.cause) == ("fail", "conversion-defect")
    assert "the logits differ by 54,009" in outcome.found


def test_lost_norms_are_found_in_every_architecture() -> None:
    ones, others = np.ones(8, "f4"), np.linspace(0.5, 2, 8, dtype="f4")
    lost = {"a_norm.weight": ones, "b_norm.weight": ones, "c_norm.weight": others}
    assert check_norms(facts_of(vectors=lost)).status == "fail"
    kept = {"a_norm.weight": ones, "b_norm.weight": others, "c_norm.weight": others}
    assert check_norms(facts_of(vectors=kept)).status == "ok"
