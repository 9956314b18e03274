"""Which tests run, and which may skip: only those with a marker of conftest.REQUIREMENTS."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import TESTS

CONFTEST = TESTS / "conftest.py"
# Loading them takes most of the time of these runs.
NO_PLUGINS = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:pytest_cov")
EXPECTED = """
import pytest

@pytest.mark.requires_vocab
def test_it(vocab_file):
    raise AssertionError("the file is absent: this never runs")
"""
UNEXPECTED = """
import pytest

def test_it():
    pytest.skip("oracle: shared data absent")
"""
# The requirement is met, so the skip has another cause.
BESIDE_A_MET_MARKER = """
import pytest

@pytest.mark.requires_linux
def test_it():
    pytest.skip("needs /proc, /dev/full, rlimits")
"""
WHOLE_FILE = """
import pytest

pytest.skip("not today", allow_module_level=True)
"""

SOME_SLOW = """
import pytest

def test_quick(): pass

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.slow_except("1")
@pytest.mark.parametrize("n", [1, 2])
def test_each(n): pass
"""
QUICK, SLOW = {"test_quick", "test_each[1]"}, {"test_slow", "test_each[2]"}


def run_pytest(folder: Path, text: str, *args: str) -> tuple[int, str]:
    """Return exit code and output of pytest for one test file, in a folder without ../shared."""
    tests = folder / "clone" / "tests"
    tests.mkdir(parents=True)
    shutil.copy(CONFTEST, tests)
    (tests / "test_it.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *NO_PLUGINS, "--strict-markers", *args],
        cwd=tests,
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
    )
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "workers"])
def test_a_requirement_that_is_not_met_is_expected(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    code, out = run_pytest(tmp_path, EXPECTED, *workers)
    assert (code, "1 skipped" in out, "UNEXPECTED" in out) == (0, True, False), out


@pytest.mark.slow_except("one process")
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "workers"])
def test_any_other_skip_fails_the_run(tmp_path: Path, workers: tuple[str, ...]) -> None:
    code, out = run_pytest(tmp_path, UNEXPECTED, *workers)
    assert (code, "UNEXPECTED SKIP" in out) == (1, True), out


@pytest.mark.slow
@pytest.mark.requires_linux
def test_a_met_requirement_excuses_nothing(tmp_path: Path) -> None:
    code, out = run_pytest(tmp_path, BESIDE_A_MET_MARKER)
    assert (code, "UNEXPECTED SKIP" in out) == (1, True), out


@pytest.mark.slow
def test_a_file_that_skips_itself_fails_the_run(tmp_path: Path) -> None:
    code, out = run_pytest(tmp_path, WHOLE_FILE)
    assert code, out  # nothing ran: 5
    assert "UNEXPECTED SKIP" in out


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), QUICK),
        (("-m", "slow"), SLOW),
        (("-n", "1"), QUICK),
        (("-n", "1", "-m", "slow"), SLOW),
        (("--slow",), QUICK | SLOW),
        (("test_it.py",), QUICK | SLOW),
        (("test_it.py::test_slow",), {"test_slow"}),
    ],
    ids=["all folders", "slow", "in workers", "slow in workers", "both", "a file", "a test"],
)
@pytest.mark.slow_except("all folders")
def test_slow_tests_run_where_they_are_asked_for(
    tmp_path: Path, args: tuple[str, ...], expected: set[str]
) -> None:
    code, out = run_pytest(tmp_path, SOME_SLOW, "-v", *args)
    names = set(re.findall(r"test_it\.py::(\S+) PASSED|PASSED test_it\.py::(\S+)", out))
    assert (code, {"".join(pair) for pair in names}) == (0, expected), out
