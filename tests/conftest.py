"""What holds for every test: a home of its own, no network, a fixed terminal, and counted skips."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))  # `import builders`, from sub-folders too

# A shell starts its background jobs with SIGINT ignored, and children inherit that; tests press Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A skip is expected only with one of these reasons; any other fails the run.
EXPECTED_SKIPS = ("shared data absent", "oracle")
# Folders that run only when they are named on the command line.
BY_NAME = ("oracle", "bench")
LOOPBACK = ("127.0.0.1", "::1", "localhost", "")
# The caller's own settings must not decide a test.
FOREIGN = (
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HUGGING_FACE_HUB_TOKEN",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "XDG_STATE_HOME",
    "G4_DEBUG",
    "FORCE_COLOR",
    "OLLAMA_MODELS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)

_unexpected: list[str] = []


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point every directory that g4 uses into the test's own folder."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("G4_HOME", str(tmp_path / "g4-home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Refuse every connection that leaves this machine."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in LOOPBACK:
            raise OSError(f"tests may not use the network: {address}")
        real(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of shared data beside the repository, or skip."""
    folder = TESTS.parents[1] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("shared data absent")
    return folder


@pytest.fixture(scope="session")
def vocab_file(shared_data: Path) -> Path:
    """Return the real Gemma 4 vocabulary (262,144 tokens, no weights), or skip."""
    path = shared_data / "gemma4-vocab" / "ggml-vocab-gemma-4.gguf"
    if not path.is_file():
        pytest.skip("shared data absent: ggml-vocab-gemma-4.gguf")
    return path


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the folders of BY_NAME unless an argument lies in them."""
    for folder in BY_NAME:
        place = TESTS / folder
        if collection_path == place or place in collection_path.parents:
            named = [Path(os.path.abspath(arg.split("::")[0])) for arg in config.args]
            return None if any(place == arg or place in arg.parents for arg in named) else True
    return None


def _note_skip(report: Any) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if not reason.removeprefix("Skipped: ").startswith(EXPECTED_SKIPS):
        _unexpected.append(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count skips of tests."""
    _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Count skips of whole files."""
    _note_skip(report)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that skipped what it should not have."""
    if _unexpected and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the unexpected skips."""
    for line in _unexpected:
        terminalreporter.write_line(f"UNEXPECTED SKIP {line}", red=True)
