"""Python functions that the model calls, in a process that they may hang, crash or fill."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.errors import FileMissing, UsageError
from g4cli.operations.tools import functions
from g4cli.operations.tools.options import ToolOptions
from g4cli.operations.tools.toolbox import Toolbox, open_toolbox
from g4cli.prompt.messages import ToolCall
from tests.support.run.process import wait_until_gone

FILE = """
import os, subprocess, sys, time
count = 0

def add(a: int, b: int = 1) -> int:
    global count
    count += 1
    return a + b + 0 * count

def calls() -> int:
    return count

def hang(folder: str) -> str:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(folder + "/pids", "w") as file:
        file.write(f"{os.getpid()} {sleeper.pid}")
    time.sleep(600)

def detach(seconds: float) -> str:
    os.closerange(3, 256)  # as programs do that go on in the background
    time.sleep(seconds)

def crash() -> str:
    os._exit(3)

def leave() -> str:
    sys.exit("bye")

def talk() -> str:
    print("printed", flush=True)
    os.write(1, b"not JSON\\n")
    return "read " + repr(sys.stdin.read())

def megabytes() -> str:
    return "x" * (3 << 20)

def binary() -> bytes:
    return b"\\0\\xff"

def variable() -> str:
    return os.environ.get("WEATHER_KEY", "none")
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("G4_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WEATHER_KEY", "sunny")
    return tmp_path


@pytest.fixture
def toolbox(home: Path) -> Iterator[Toolbox]:
    path = home / "mine.py"
    path.write_text(FILE)
    with open_toolbox(ToolOptions(tools=path)) as found:
        yield found


def run(toolbox: Toolbox, name: str, **arguments: Any) -> str:
    return toolbox.run_call(ToolCall(name, arguments), lambda *_: "yes")


@pytest.mark.slow
def test_results_and_failures(toolbox: Toolbox, home: Path) -> None:
    assert run(toolbox, "add", a=2) == "3"
    assert run(toolbox, "calls") == "1"
    assert run(toolbox, "add", a="x").startswith("error: TypeError")
    assert run(toolbox, "leave") == "error: SystemExit: bye"
    assert run(toolbox, "talk") == "read ''"
    logs = [path.read_text() for path in (home / "home").rglob("tools.log")]
    assert logs == ["printed\nnot JSON\n"]
    assert run(toolbox, "megabytes").endswith("more characters were left out]")
    assert "\0" not in run(toolbox, "binary")
    assert run(toolbox, "variable") == "sunny"
    assert run(toolbox, "calls") == "2"  # the same process all the time
    assert run(toolbox, "crash") == "error: its process ended: exit code 3"
    assert run(toolbox, "calls") == "0"
    (home / "mine.py").write_text(f"def first() -> str:\n    return 'new'\n{FILE}")
    run(toolbox, "crash")
    assert run(toolbox, "add", a=2) == "3"  # not what has its place now


@pytest.mark.slow
def test_a_function_that_hangs_is_ended_with_what_it_started(
    toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "CALL_S", 5.0)
    assert run(toolbox, "hang", folder=str(tmp_path)) == "error: it took more than 5 seconds"
    for pid in (tmp_path / "pids").read_text().split():
        assert wait_until_gone(int(pid))
    assert run(toolbox, "detach", seconds=20.0) == "error: it took more than 5 seconds"
    monkeypatch.setattr(functions, "CALL_S", 60.0)
    assert run(toolbox, "add", a=2) == "3"


@pytest.mark.slow
def test_ctrl_c_ends_the_call_and_not_the_chat(toolbox: Toolbox, tmp_path: Path) -> None:
    def press() -> None:
        while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    assert run(toolbox, "hang", folder=str(tmp_path)) == "error: the user stopped this call"
    for pid in (tmp_path / "pids").read_text().split():
        assert wait_until_gone(int(pid))
    assert run(toolbox, "add", a=2) == "3"


@pytest.mark.slow
def test_a_file_that_does_not_come_to_its_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "mine.py"
    monkeypatch.setattr(functions, "START_S", 1.0)
    path.write_text("while True: pass")
    with (
        pytest.raises(UsageError, match="cannot be loaded: it took more than 1 seconds"),
        open_toolbox(ToolOptions(tools=path)),
    ):
        pass


@pytest.mark.slow
def test_what_cannot_be_loaded(home: Path) -> None:
    wrong: list[tuple[ToolOptions, type[Exception], str]] = [
        (ToolOptions(tool=["math:sqrt"]), UsageError, "the parameter x has no name to call it by"),
        (ToolOptions(tool=["platform"]), UsageError, "is not MODULE:FUNCTION"),
        (ToolOptions(tools=home / "none.py"), FileMissing, "none.py"),
    ]
    for options, kind, said in wrong:
        with pytest.raises(kind, match=said), open_toolbox(options):
            pass


def test_the_process_ends_with_the_chat(home: Path) -> None:
    (home / "mine.py").write_text("import os\ndef number() -> int:\n    return os.getpid()")
    with open_toolbox(ToolOptions(tools=home / "mine.py")) as toolbox:
        pid = int(run(toolbox, "number"))
        assert pid != os.getpid()
    assert wait_until_gone(pid)


@pytest.mark.slow
def test_without_a_log_that_can_be_written(home: Path) -> None:
    (home / "mine.py").write_text(FILE)
    (home / "home").mkdir(exist_ok=True)
    (home / "home" / "state").write_text("a file in the place of the folder")
    with open_toolbox(ToolOptions(tools=home / "mine.py")) as toolbox:
        assert run(toolbox, "talk") == "read ''"
