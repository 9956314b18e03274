"""Operations use a Reporter: the terminal's Output is one, and so is the tests' recorder."""

from __future__ import annotations

import pytest

from g4cli.cli.output import Output
from g4cli.core.reporter import Reporter
from tests.support.fakes.reporter import RecordingReporter


def run_job(reporter: Reporter) -> int:
    """A small operation: it tells, warns, and counts."""
    reporter.say("two files")
    reporter.warn("the second is old")
    with reporter.progress("read", unit="files") as progress:
        progress(1, 2, "first")
        progress(2, 2, "second")
    return 2


def test_the_recorder_keeps_what_it_was_told() -> None:
    reporter = RecordingReporter()
    assert run_job(reporter) == 2
    assert reporter.messages == ["two files"]
    assert reporter.warnings == ["the second is old"]
    assert reporter.jobs == [("read", "files")]
    assert reporter.steps == [(1, 2, "first"), (2, 2, "second")]


def test_the_terminal_is_a_reporter(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(Output()) == 2
    got = capsys.readouterr()
    assert got.out == ""
    assert got.err == "two files\nwarning: the second is old\n"
