"""Can this machine run g4: libraries, kernels, memory, disk, folders, terminal?"""

from __future__ import annotations

import importlib.metadata
import locale
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from g4cli import LLAMA_CPP_PYTHON
from g4cli.core.files import existing_folder
from g4cli.core.paths import cache_dir, data_dir, state_dir
from g4cli.core.units import GIB, size_text
from g4cli.doctor.checks.engine_bugs import BAD_CUDA, RISKY, cuda_of
from g4cli.doctor.memory import total_and_available
from g4cli.doctor.probe.child import ask_child
from g4cli.doctor.report import Check, Outcome, Report, fail, ok, run_checks, skipped, warn
from g4cli.doctor.verdict import SUMMARY, decide

LIBRARIES: Final = (
    # distribution, the version that g4 was tested with ("" = any)
    ("llama-cpp-python", LLAMA_CPP_PYTHON),
    ("numpy", ""),
    ("typer", ""),
    ("rich", ""),
    ("prompt_toolkit", ""),
    ("jinja2", ""),
    ("platformdirs", ""),
    ("huggingface_hub", ""),
)
_LITTLE_MEMORY: Final = 4 * GIB
_LITTLE_DISK: Final = 5 * GIB
_KERNELS_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What is known about this machine; sizes in bytes, 0 = unknown. `engine`, `kernels`: from the child."""

    python: str
    system: str
    versions: dict[str, str]
    engine: dict[str, Any]
    kernels: dict[str, Any]
    engine_error: str
    memory_total: int
    memory_free: int
    folders: tuple[tuple[str, str], ...]
    disk_free: int
    disk_path: str
    encoding: str
    terminal: str
    backends: Mapping[str, Any] = field(default_factory=dict)


def gather_machine() -> MachineFacts:
    """Return the facts. The engine is asked in a child process, since it may crash."""
    answer = ask_child({"task": "machine"}, _KERNELS_TIMEOUT_S)
    by_event = {str(line.get("event")): line for line in answer.lines}
    error = ""
    if "library" not in by_event or "kernels" not in by_event:
        last = answer.stderr.strip().splitlines()
        said = by_event.get("error", {}).get("message") or (last[-1] if last else "")
        error = str(said) or f"the probe ended with code {answer.exit_code}"
    total, free = total_and_available()
    home = data_dir()
    return MachineFacts(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        versions={name: installed_version(name) for name, _ in LIBRARIES},
        engine=by_event.get("library", {}),
        kernels=by_event.get("kernels", {}),
        engine_error=error,
        memory_total=total,
        memory_free=free,
        folders=tuple((str(d), _write_error(d)) for d in (home, cache_dir(), state_dir())),
        disk_free=shutil.disk_usage(existing_folder(home)).free,
        disk_path=str(home),
        encoding=locale.getpreferredencoding(False),
        terminal=_terminal(),
        backends=by_event.get("backends", {}),
    )


def diagnose_machine(only: tuple[str, ...] = ()) -> Report:
    """Return the report on this machine."""
    return judge_machine(gather_machine(), only)


def judge_machine(facts: MachineFacts, only: tuple[str, ...] = ()) -> Report:
    """Return the report on facts already gathered."""
    findings = run_checks(CHECKS, facts, only)
    verdict, confidence, decisive = decide(findings)
    return Report(
        subject="this machine",
        verdict=verdict,
        confidence=confidence,
        summary="this machine is ready for g4" if verdict == "healthy" else SUMMARY[verdict],
        evidence=tuple(f.found for f in decisive),
        fix=decisive[0].fix if decisive else "",
        findings=findings,
    )


def check_libraries(facts: MachineFacts) -> Outcome:
    """Compare installed versions with those g4 was tested with."""
    absent = [name for name, _ in LIBRARIES if not facts.versions[name]]
    if absent:
        return fail(
            f"not installed: {', '.join(absent)}",
            f"{sys.executable} -m pip install g4cli",
            cause="runtime",
        )
    other = [
        f"{name} {facts.versions[name]} (tested: {wanted})"
        for name, wanted in LIBRARIES
        if wanted and facts.versions[name] != wanted
    ]
    if other:
        wanted = " ".join(f"{name}=={version}" for name, version in LIBRARIES if version)
        return warn("other versions than tested: " + ", ".join(other), f"pip install {wanted}")
    return ok(
        f"Python {facts.python}, "
        + ", ".join(f"{n} {v}" for n, v in list(facts.versions.items())[:2])
    )


def check_engine(facts: MachineFacts) -> Outcome:
    """Say which llama.cpp runs here, or why none does."""
    if not facts.engine:
        return fail(
            f"llama.cpp does not start: {facts.engine_error}",
            f"{sys.executable} -m pip install --force-reinstall llama-cpp-python=={LLAMA_CPP_PYTHON}",
            cause="runtime",
        )
    features = [
        part.split("=")[0].strip().removeprefix("CPU : ")
        for part in str(facts.engine["system_info"]).split("|")
        if part.strip().endswith("= 1")
    ]
    return ok(f"llama-cpp-python {facts.engine['version']} on {facts.system}: {' '.join(features)}")


def check_kernels(facts: MachineFacts) -> Outcome:
    """Report products that crash or compute nonsense here (they were tried in a child process)."""
    if not facts.kernels:
        return skipped("the engine did not answer", facts.engine_error)
    products = facts.kernels["products"]
    bad = [p for p in products if p["status"] in ("crash", "wrong")]
    plain = [p for p in bad if p["layout"] == "plain"]
    if plain:
        return fail(
            "; ".join(f"the {p['type']} product: {p['status']} ({p['detail']})" for p in plain[:3]),
            "make setup (builds llama.cpp for this CPU)",
            cause="runtime",
        )
    if bad:
        return warn(
            f"{facts.kernels['reason']}; g4 goes round it, at about half the speed", "make setup"
        )
    tried = sum(p["status"] == "ok" for p in products)
    return ok(f"{tried} matrix products run and agree with numpy")


def check_gpu(facts: MachineFacts) -> Outcome:
    """Name the GPUs that the engine can use, and a CUDA release that computes some types wrongly."""
    found = facts.backends
    if not found:
        return skipped("the engine did not answer")
    names = [d["description"] for d in found["devices"] if d["kind"] in ("gpu", "igpu")]
    cuda, others = cuda_of(found), [b for b in found["backends"] if b != "CPU"]
    versions = found.get("cuda", {})
    text = ", ".join(
        [f"{' and '.join(others) or 'CPU only'}: {', '.join(names) or 'no GPU'}"]
        + ([f"CUDA {cuda or 'of an unknown release'}"] if cuda is not None else [])
        + [f"{what} {versions[key]}" for key, what in _DRIVER if versions.get(key)]
    )
    if cuda == BAD_CUDA:
        return warn(
            f"{text}: its compiler computes {', '.join(sorted(RISKY))} tensors wrongly",
            "use a build with CUDA 13.1, 13.3 or later, or files of other types",
        )
    if others and not names:
        return warn(
            f"{text}: the engine was built for a GPU and finds none", "check the GPU's driver"
        )
    return ok(text)


_DRIVER: Final = (("driver", "driver for CUDA"), ("driver_release", "release"))


def check_memory(facts: MachineFacts) -> Outcome:
    """Compare free memory with what the smallest real model needs."""
    if not facts.memory_total:
        return skipped("this system does not say how much memory it has")
    text = f"{size_text(facts.memory_free)} of {size_text(facts.memory_total)} free"
    if facts.memory_free < _LITTLE_MEMORY:
        return warn(f"{text}: the smallest real model needs about 4 GiB", "g4 fit e2b")
    return ok(text)


def check_disk(facts: MachineFacts) -> Outcome:
    """Compare free space with what the smallest real model needs."""
    text = f"{size_text(facts.disk_free)} free at {facts.disk_path}"
    if facts.disk_free < _LITTLE_DISK:
        return warn(
            f"{text}: a model takes 3 to 30 GiB", "g4 list, then g4 remove MODEL, or set G4_HOME"
        )
    return ok(text)


def check_folders(facts: MachineFacts) -> Outcome:
    """Say which of g4's folders cannot be written."""
    bad = [f"{path}: {why}" for path, why in facts.folders if why]
    if bad:
        return fail(
            "; ".join(bad), "export G4_HOME=~/g4 (any folder that you can write)", cause="runtime"
        )
    return ok("models, cache and state can be written")


def check_terminal(facts: MachineFacts) -> Outcome:
    """Say whether Gemma's characters can be shown."""
    if facts.encoding.upper().replace("-", "") != "UTF8":
        return warn(
            f"the terminal's encoding is {facts.encoding}, not UTF-8", "export LC_ALL=C.UTF-8"
        )
    return ok(facts.terminal)


CHECKS: Final = (
    Check("machine.libraries", check_libraries),
    Check("machine.engine", check_engine),
    Check("machine.kernels", check_kernels),
    Check("machine.gpu", check_gpu),
    Check("machine.memory", check_memory),
    Check("machine.disk", check_disk),
    Check("machine.folders", check_folders),
    Check("machine.terminal", check_terminal),
)


def installed_version(name: str) -> str:
    """Return the version of a distribution, or ""."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _write_error(folder: Path) -> str:
    """Return why nothing can be written to `folder` (or where it will be made), or ''."""
    try:
        with tempfile.TemporaryFile(dir=existing_folder(folder)):
            return ""
    except OSError as err:
        return err.strerror or str(err)


def _terminal() -> str:
    if not sys.stdout.isatty():
        return "standard output is not a terminal: plain text, no colours"
    size = shutil.get_terminal_size()
    colour = "no colours (NO_COLOR)" if os.environ.get("NO_COLOR") else "colours"
    return f"{os.environ.get('TERM', 'unknown terminal')}, {size.columns} columns, {colour}, UTF-8"
