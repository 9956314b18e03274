"""Checks of this machine: libraries, llama.cpp, kernels, GPU, memory, disk, folders, terminal."""

from __future__ import annotations

from functools import partial
from typing import Final

from g4cli import LLAMA_CPP_PYTHON
from g4cli.core.units import GIB, size_text
from g4cli.doctor.checks.advice import (
    INSTALL,
    INSTALL_LIBRARY,
    REBUILD_ENGINE,
    REINSTALL_ENGINE,
)
from g4cli.doctor.facts.machine import LIBRARIES, MachineFacts
from g4cli.doctor.known_faults import KNOWN_FAULTS, find_release
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

_fail = partial(fail, cause="runtime")

# The smallest published model (E2B as Q4_0) needs about this much memory, and 3.2 GiB of disk.
_LOW_MEMORY: Final = 4 * GIB
_LOW_DISK: Final = 5 * GIB
# Backends of ggml that compute on the CPU, or on other machines.
_WITHOUT_GPU: Final = ("CPU", "BLAS", "ZenDNN", "RPC")
# Keys of the event "backends" that tell the version of the GPU's driver, and what to call them.
_DRIVER_KEYS: Final = (("driver", "driver for CUDA"), ("driver_release", "release"))


def check_libraries(facts: MachineFacts) -> Outcome:
    """Fail without a library, and warn of a llama-cpp-python that g4 was not tested with."""
    absent = [name for name in LIBRARIES if not facts.versions[name]]
    if absent:
        return _fail(f"not installed: {', '.join(absent)}", INSTALL)
    engine = f"llama-cpp-python {facts.versions['llama-cpp-python']}"
    if facts.versions["llama-cpp-python"] != LLAMA_CPP_PYTHON:
        return warn(
            f"other versions than tested: {engine} (tested: {LLAMA_CPP_PYTHON})", INSTALL_LIBRARY
        )
    return ok(f"Python {facts.python}, {engine}, numpy {facts.versions['numpy']}")


def check_engine(facts: MachineFacts) -> Outcome:
    """Name the installed llama.cpp and the CPU features that it uses; fail if it does not start."""
    library = facts.engine.library
    if not library:
        return _fail(f"llama.cpp does not start: {facts.engine.error}", REINSTALL_ENGINE)
    # system_info is text such as "CPU : AVX2 = 1 | AMX_INT8 = 0 | OPENMP = 1 | ".
    features = [
        part.split("=")[0].strip().removeprefix("CPU : ")
        for part in str(library["system_info"]).split("|")
        if part.strip().endswith("= 1")
    ]
    return ok(f"llama-cpp-python {library['version']} on {facts.system}: {' '.join(features)}")


def check_kernels(facts: MachineFacts) -> Outcome:
    """Fail for matrix products that crash or are wrong on this CPU."""
    kernels = facts.engine.kernels
    if not kernels:
        return skipped("llama.cpp did not answer")
    products = kernels["products"]
    bad = [p for p in products if p["status"] in ("crash", "wrong")]
    # The layout in the file; g4 can do without the repacked ones (use_extra_bufts).
    plain = [p for p in bad if p["layout"] == "plain"]
    if plain:
        return _fail(
            "; ".join(
                f"the {p['type']} matrix product: {p['status']} ({p['detail']})" for p in plain[:3]
            ),
            REBUILD_ENGINE,
        )
    if bad:
        return warn(
            f"{kernels['reason']}; g4 runs without them, at about half the speed", REBUILD_ENGINE
        )
    tried = sum(p["status"] == "ok" for p in products)
    return ok(f"{tried} matrix products agree with numpy")


def check_gpu(facts: MachineFacts) -> Outcome:
    """Name the GPUs that llama.cpp can use; warn of a build with a known bug."""
    backends = facts.engine.backends
    if not backends:
        return skipped("llama.cpp did not answer")
    names = [d["description"] for d in backends["devices"] if d["kind"] in ("gpu", "igpu")]
    cuda = find_release("CUDA", backends)
    others = [b for b in backends["backends"] if b not in _WITHOUT_GPU]
    versions = backends.get("cuda", {})
    text = ", ".join(
        [f"{' and '.join(others) or 'CPU only'}: {', '.join(names) or 'no GPU'}"]
        + ([f"CUDA {cuda or 'of an unknown release'}"] if cuda is not None else [])
        + [f"{what} {versions[key]}" for key, what in _DRIVER_KEYS if versions.get(key)]
    )
    for fault in KNOWN_FAULTS:
        for backend in fault.backends if fault.release else ():
            if find_release(backend, backends) == fault.release:
                return warn(
                    f"{text}: llama.cpp built with it computes "
                    f"{', '.join(sorted(fault.tensor_types))} tensors wrongly "
                    f"({fault.symptom_text})",
                    f"{fault.workaround}, or files of other types",
                )
    if others and not names:
        return warn(f"{text}: llama.cpp was built for a GPU and finds none", "check the GPU driver")
    return ok(text)


def check_memory(facts: MachineFacts) -> Outcome:
    """Warn of less free memory than the smallest published model needs."""
    if not facts.memory_total:
        return skipped("the size of the memory is unknown")
    text = f"{size_text(facts.memory_free)} of {size_text(facts.memory_total)} free"
    if facts.memory_free < _LOW_MEMORY:
        return warn(f"{text}: the smallest published model needs about 4 GiB", "g4 fit e2b")
    return ok(text)


def check_disk(facts: MachineFacts) -> Outcome:
    """Warn of less free space than a published model takes."""
    text = f"{size_text(facts.disk_free)} free in {facts.disk_path}"
    if facts.disk_free < _LOW_DISK:
        return warn(
            f"{text}: a model takes 3 to 30 GiB", "g4 list, then g4 remove MODEL, or set G4_HOME"
        )
    return ok(text)


def check_folders(facts: MachineFacts) -> Outcome:
    """Fail if one of g4's folders cannot be written."""
    bad = [f"{path}: {why}" for path, why in facts.folders if why]
    if bad:
        return _fail("; ".join(bad), "export G4_HOME=~/g4 (any folder that you can write)")
    return ok("the folders for models, cache and state can be written")


def check_terminal(facts: MachineFacts) -> Outcome:
    """Warn of an encoding in which most characters of an answer cannot be shown."""
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
