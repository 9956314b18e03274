"""The progress of compiling llama.cpp: expected duration, lines of progress, errors."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.build_llama import Progress, describe_duration, run_pip

BUILD = [
    "Collecting llama-cpp-python==1.2.3",
    "  Building wheel for llama-cpp-python (pyproject.toml): started",
    "  [1/4] Building C object a.c.o",
    "  [2/4] Building CXX object b.cpp.o",
    "  [4/4] Linking CXX shared library c.so",
    "Installing collected packages: llama-cpp-python",
]


def show_build(
    tmp_path: Path, lines: list[str], code: int = 0, *, is_terminal: bool = False
) -> str:
    """What the user sees of a build that prints `lines` and leaves with `code`."""
    program = f"import sys; print({chr(10).join(lines)!r}); sys.exit({code})"
    out = io.StringIO()
    found = run_pip(
        [sys.executable, "-c", program],
        tmp_path / "log",
        out,
        is_terminal=is_terminal,
        columns=60,
    )
    assert found == code
    assert (tmp_path / "log").read_text().splitlines() == lines
    return out.getvalue()


def test_a_terminal_shows_every_file_in_one_line(tmp_path: Path) -> None:
    text = show_build(tmp_path, BUILD, is_terminal=True)
    assert text.count("\n") == 1, "only the last line is ended"
    shown = [part.rstrip() for part in text.split("\r")]
    assert "  llama.cpp: compiling: file 2 of 4 (50 %), 0:00" in shown
    assert max(map(len, shown)) < 60
    assert shown[-1].startswith("  llama.cpp: done")


def test_without_a_terminal_a_line_appears_now_and_then(tmp_path: Path) -> None:
    files = [f"[{i}/500] Building CXX object x.o" for i in range(1, 501)]
    text = show_build(tmp_path, [*BUILD[:2], *files, BUILD[-1]])
    assert "\r" not in text
    assert "configuring" in text
    assert 3 < text.count("\n") < 20


def test_makes_own_progress_is_understood(tmp_path: Path) -> None:
    text = show_build(tmp_path, ["[ 42%] Building CXX object x.o"], is_terminal=True)
    assert "compiling: 42 %" in text


def test_a_failure_shows_its_errors_and_the_last_lines(tmp_path: Path) -> None:
    early = "a.cpp:7:3: error: unknown type name 'x'"
    lines = [*BUILD[:3], early, *[f"line {i}" for i in range(100)]]
    text = show_build(tmp_path, lines, 3)
    assert "failed with exit code 3" in text
    assert early in text
    assert "line 59\n" not in text
    assert "line 60\nline 61\n" in text
    assert "line 99\n" in text
    assert str(tmp_path / "log") in text


def test_what_is_interrupted_ends_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build is pip, CMake, Ninja and compilers: none may go on behind the user's back."""

    def interrupt(_progress: Progress, line: str) -> None:
        raise KeyboardInterrupt(line)

    monkeypatch.setattr(Progress, "read_line", interrupt)
    grandchild = "import subprocess; p = subprocess.Popen(['sleep', '600'])"
    program = f"{grandchild}; print(p.pid, flush=True); p.wait()"
    with pytest.raises(KeyboardInterrupt) as caught:
        run_pip(
            [sys.executable, "-c", program],
            tmp_path / "log",
            io.StringIO(),
            is_terminal=False,
            columns=80,
        )
    pid = int(str(caught.value))
    for _ in range(1000):
        if not is_running(pid):
            return
        time.sleep(0.01)
    raise AssertionError(f"{pid} still runs")


def is_running(pid: int) -> bool:
    done = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(done.stdout.strip()) and not done.stdout.startswith("Z")


@pytest.mark.parametrize(
    ("n_cores", "said"),
    [
        (1, "about 8 to 16 minutes on 1 core"),
        (2, "about 4 to 8 minutes on 2 cores"),
        (64, "about a minute on 64 cores"),
    ],
)
def test_the_duration_follows_from_the_cores(n_cores: int, said: str) -> None:
    assert describe_duration(n_cores) == said
