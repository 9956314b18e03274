"""Tests with Hypothesis find the same thing on a fast machine, a slow one and a loaded one."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.support.paths import TESTS


def test_properties_do_not_judge_the_machine() -> None:
    assert settings.default is not None
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check
    assert settings.default.derandomize


def test_no_property_has_a_deadline_of_its_own() -> None:
    files = [path for path in TESTS.rglob("test_*.py") if path.name != "test_hypothesis.py"]
    assert [path.name for path in files if "deadline=" in path.read_text("utf-8")] == []
