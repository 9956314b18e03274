"""What holds for every test: a home of its own, no network, a fixed terminal, and counted skips.

A test that cannot run everywhere carries a marker of REQUIREMENTS. It is skipped where the
requirement is not met. Any other skip fails the run, so that no test disappears unnoticed.

The marker `slow` keeps a test out of the runs of whole folders, which take two minutes without
them. `--slow` runs them too, `-m slow` runs them alone, and so does naming a test file.
`@pytest.mark.slow_except("id", ...)` marks all parameter sets of a test but the named ones.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from g4cli.core.errors import EngineMissing
from g4cli.runtime.llama.installation import library_folder

TESTS = Path(__file__).parent

# Tests start g4 some hundred times: without compiled modules each start takes a second more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell starts its background jobs with SIGINT ignored, and children inherit that; tests press
# Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
# nohup starts its command with SIGHUP ignored; tests send it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

SHARED_DATA = TESTS.parents[1] / "shared" / "data"
PUBLISHED_VOCAB = SHARED_DATA / "gemma4-vocab" / "ggml-vocab-gemma-4.gguf"
PUBLISHED_TEMPLATE = SHARED_DATA / "gemma4-vocab" / "google-gemma-4-31B-it.jinja"


# The same examples on every machine, and no judgment of its speed: what fails once fails always.
settings.register_profile(
    "g4",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("g4")


class Requirement(NamedTuple):
    """What a marker asks of the machine."""

    description: str
    is_met: Callable[[], bool]


# The one place that decides which skips are expected.
REQUIREMENTS = {
    "requires_linux": Requirement("/proc, /dev/full, rlimits", lambda: sys.platform == "linux"),
    "requires_byte_names": Requirement(
        "a file system whose names are bytes: macOS takes UTF-8 names only",
        lambda: sys.platform == "linux",
    ),
    "requires_vocab": Requirement(
        "the published Gemma 4 vocabulary in ../shared/data", PUBLISHED_VOCAB.is_file
    ),
    "requires_template": Requirement(
        "the published 31B chat template in ../shared/data", PUBLISHED_TEMPLATE.is_file
    ),
}


SSHD = Path("/usr/sbin/sshd")


def _has_rpc() -> bool:
    """Return whether the installed llama.cpp was compiled with its RPC backend."""
    try:
        return any(library_folder().glob("*ggml-rpc*"))
    except EngineMissing:
        return False


REQUIREMENTS["requires_rpc"] = Requirement(
    "llama.cpp compiled with GGML_RPC=ON, as `make setup` does it", _has_rpc
)
REQUIREMENTS["requires_sshd"] = Requirement(
    "OpenSSH's client and server (apt-get install openssh-client openssh-server; mkdir /run/sshd)",
    lambda: bool(shutil.which("ssh")) and SSHD.is_file() and Path("/run/sshd").is_dir(),
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
REQUIREMENTS["requires_chromium"] = Requirement(
    "Chromium (apt-get install chromium) for the page of g4 serve", lambda: bool(CHROMIUM)
)
for shell in ("bash", "zsh", "fish"):
    REQUIREMENTS[f"requires_{shell}"] = Requirement(
        f"{shell}, for its completion", lambda shell=shell: shutil.which(shell) is not None
    )
# Tools from npm: npm install --prefix build/node axe-core@4 typescript@5
NODE_MODULES = TESTS.parent / "build" / "node" / "node_modules"
AXE = NODE_MODULES / "axe-core" / "axe.min.js"
TSC = NODE_MODULES / "typescript" / "bin" / "tsc"
REQUIREMENTS["requires_axe"] = Requirement(
    "axe-core (npm install --prefix build/node axe-core@4)", AXE.is_file
)
REQUIREMENTS["requires_tsc"] = Requirement(
    "node and typescript (npm install --prefix build/node typescript@5)",
    lambda: TSC.is_file() and shutil.which("node") is not None,
)
MCP_PACKAGES = NODE_MODULES / "@modelcontextprotocol"
REQUIREMENTS["requires_mcp_servers"] = Requirement(
    "node and the reference MCP servers (npm install --prefix build/node "
    "@modelcontextprotocol/server-everything @modelcontextprotocol/server-filesystem "
    "@modelcontextprotocol/server-memory)",
    lambda: shutil.which("node") is not None and (MCP_PACKAGES / "server-memory").is_dir(),
)
# It needs a newer node than Debian's.
NODE_22 = NODE_MODULES / "node" / "bin" / "node"
MCP_CONFORMANCE = MCP_PACKAGES / "conformance" / "dist" / "index.js"
REQUIREMENTS["requires_mcp_conformance"] = Requirement(
    "MCP's conformance suite (npm install --prefix build/node @modelcontextprotocol/conformance "
    "node@22)",
    lambda: NODE_22.is_file() and MCP_CONFORMANCE.is_file(),
)
MARKERS = (
    "slow: not in the default run; with --slow, with -m slow, or where its file is named",
    "slow_except(*ids): slow, but for the parameter sets with these ids",
)
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
_homes = itertools.count()


@pytest.fixture(autouse=True, scope="session")
def own_settings() -> Iterator[None]:
    """Replace the caller's settings by those that the tests expect."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*FOREIGN, *(name for name in os.environ if name.startswith("G4_"))):
            patch.delenv(name, raising=False)
        patch.setenv("NO_COLOR", "1")
        patch.setenv("COLUMNS", "100")
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        yield


@pytest.fixture(autouse=True)
def own_home(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Point every directory that g4 uses into a folder of the test's own; yield that folder.

    The folder is made by what writes into it: most tests write nothing. Commands that run in this
    process get an empty standard input: many read it to its end.
    """
    home = tmp_path_factory.getbasetemp() / f"home-{next(_homes)}"
    monkeypatch.setenv("G4_HOME", str(home / "g4-home"))
    monkeypatch.setenv("HF_HOME", str(home / "hf-home"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    yield home
    shutil.rmtree(home, ignore_errors=True)


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
def vocab_file() -> Path:
    """Return the published Gemma 4 vocabulary (no weights). Needs `requires_vocab`."""
    return PUBLISHED_VOCAB


@pytest.fixture(scope="session")
def published_template() -> str:
    """Return the chat template of the published 31B model. Needs `requires_template`."""
    return PUBLISHED_TEMPLATE.read_text(encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs slow tests together with the others."""
    parser.addoption("--slow", action="store_true", help="run tests that are marked slow too")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    required = [f"{name}: {requirement.description}" for name, requirement in REQUIREMENTS.items()]
    for line in (*MARKERS, *required):
        config.addinivalue_line("markers", line)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose requirement is not met."""
    for name, requirement in REQUIREMENTS.items():
        if item.get_closest_marker(name) and not requirement.is_met():
            pytest.skip(f"needs {requirement.description}")


def pytest_collection_finish() -> None:
    """Refuse test files that load llama.cpp when they are imported.

    That costs a second in each process, and the whole package (`import llama_cpp`) prints
    llama.cpp's log from then on, unless g4 is loaded after it.
    """
    loaded = [name for name in sys.modules if name.partition(".")[0] == "llama_cpp"]
    if loaded:
        raise pytest.UsageError(f"a test file loads {', '.join(loaded)} when it is imported")


@pytest.hookimpl(tryfirst=True)  # before pytest evaluates -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order and choose the tests.

    The unit tests run first: they fail fastest, and prove that none of them loads llama.cpp.
    """
    items.sort(key=lambda item: TESTS / "unit" not in item.path.parents)
    _mark_slow_parameters(items)
    if not config.option.slow and not config.option.markexpr and _names_only_folders(config):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


def _mark_slow_parameters(items: list[pytest.Item]) -> None:
    """Mark as slow what `slow_except` does not name."""
    for item in items:
        marker = item.get_closest_marker("slow_except")
        if marker is not None and item.callspec.id not in marker.args:  # type: ignore[attr-defined]
            item.add_marker("slow")


def _names_only_folders(config: pytest.Config) -> bool:
    return all(Path(arg.split("::")[0]).suffix != ".py" for arg in config.args)


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
    markers = getattr(report, "keywords", {})  # a whole file has none: its skip is never expected
    if not any(name in markers and not r.is_met() for name, r in REQUIREMENTS.items()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
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
