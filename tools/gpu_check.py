"""Check g4 on a machine with an NVIDIA GPU: one command, under eight minutes, without a network.

    python tools/gpu_check.py pack FOLDER              here: sources and wheels, at most 64 MiB
    python tools/gpu_check.py run --packed FOLDER      there: compile for its GPU, then check
    python tools/gpu_check.py run --installed          with the g4 of this environment, GPU or not

`run` writes gpu-check.json and gpu-check.md to --out. It compiles llama.cpp with CUDA for the one
architecture that the driver names; runs the tests of the engine; chats with the bundled model;
makes a file with E2B's shape and random weights, and compares its speed with llama-bench, its
memory with what `g4 fit` expects and the driver reports; opens the largest context that `g4 fit`
proposes; splits the layers between GPU and CPU; lets `g4 doctor` compare CPU and GPU; and encodes
an image. A check that fails does not stop the others; one for which no time is left is skipped.

It needs Python 3.10 or later, a C++ compiler and the CUDA toolkit there, nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
MAX_BYTES: Final = 64 * 1024**2
# What llama.cpp's CMake needs for its libraries, llama-bench and CUDA; the rest stays behind.
SOURCES: Final = ("CMakeLists.txt", "LICENSE", "app", "cmake", "common", "ggml", "include", "src",
                  "tools", "vendor", "licenses")  # fmt: skip
OTHER_BACKENDS: Final = ("cann", "hexagon", "hip", "metal", "musa", "opencl", "openvino", "sycl",
                         "virtgpu", "vulkan", "webgpu", "zdnn", "zendnn")  # fmt: skip
TEST_TOOLS: Final = ("pytest>=9,<10", "hypothesis>=6.150,<7", "gguf==0.19.0", "setuptools>=77")
TESTS: Final = ("tests/integration/runtime/test_engine.py",
                "tests/integration/runtime/test_sampler.py")  # fmt: skip


@dataclass
class Check:
    """The outcome of one check: "passed", "failed" or "skipped", and what was measured."""

    name: str
    state: str
    seconds: float = 0.0
    note: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


# --- Here: what travels ---


def pack_files(folder: Path) -> int:
    """Fill `folder` with llama.cpp's sources and wheels; return 1 if they are too large."""
    folder.mkdir(parents=True, exist_ok=True)
    llama = next(line for line in _dependencies() if line.startswith("llama-cpp-python"))
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    wheels = [line for line in _dependencies() if line != llama]
    subprocess.run([*pip, "-d", folder, "--only-binary", ":all:", *wheels, *TEST_TOOLS], check=True)
    raw = folder / "raw"
    subprocess.run([*pip, "-d", raw, "--no-deps", "--no-binary", ":all:", llama], check=True)
    (archive,) = raw.glob("*.tar.gz")
    with tarfile.open(archive) as whole, tarfile.open(folder / "llama.tar.xz", "w:xz") as part:
        for member in whole:
            if _is_needed(member.name):
                part.addfile(member, whole.extractfile(member) if member.isfile() else None)
    shutil.rmtree(raw)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1024**2:.1f} MiB in {len(list(folder.iterdir()))} files")
    return int(size > MAX_BYTES)


def _dependencies() -> list[str]:
    """Return g4's requirements that hold for this Python, as pyproject.toml has them."""
    tomllib = __import__("tomllib" if sys.version_info >= (3, 11) else "tomli")
    with (ROOT / "pyproject.toml").open("rb") as file:
        return [str(line) for line in tomllib.load(file)["project"]["dependencies"]]


def _is_needed(name: str) -> bool:
    """Return whether a member of the source archive of llama-cpp-python is needed.

    >>> [_is_needed(f"p/vendor/llama.cpp/{n}") for n in ("src/llama.cpp", "models/a.gguf")]
    [True, False]
    >>> _is_needed("p/vendor/llama.cpp/ggml/src/ggml-vulkan/ggml-vulkan.cpp")
    False
    """
    parts = name.split("/")[1:]
    if parts[:1] == ["llama_cpp"]:
        return True
    if parts[:2] != ["vendor", "llama.cpp"] or len(parts) < 3 or parts[2] not in SOURCES:
        return False
    is_sources = parts[3:5] == ["ui", "dist"] or parts[-1].endswith((".png", ".jpg", ".mp3"))
    return not is_sources and not any(f"ggml-{other}" in parts for other in OTHER_BACKENDS)


# --- There: the build ---


class Machine:
    """Where the checks run: the interpreter that has g4, llama-bench, and the time that is left."""

    def __init__(self, out: Path, minutes: float, model: Path | None = None) -> None:
        self.model, self.is_own_model = model or out / "e2b.gguf", model is None
        self.out, self.python, self.bench = out, sys.executable, shutil.which("llama-bench")
        self.end = time.monotonic() + 60 * minutes
        self.environment = {**os.environ, "G4_HOME": str(out / "home"), "PYTHONPATH": str(ROOT)}
        self.gpu = query_gpu("name,memory.total,driver_version,compute_cap")

    @property
    def seconds_left(self) -> float:
        """How long the checks may still take."""
        return self.end - time.monotonic()

    def run(self, *command: object, limit_s: float = 240.0) -> str:
        """Return the output of a command. Raises RuntimeError with the end of its errors."""
        done = subprocess.run(
            [str(word) for word in command],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=max(1.0, min(limit_s, self.seconds_left)),
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-1500:]
            raise RuntimeError(f"exit code {done.returncode}: {said}")
        return done.stdout

    def g4(self, *words: object) -> dict[str, Any]:
        """Return the JSON document of a command of g4."""
        program = "from g4cli.cli.start import main; main()"
        return dict(json.loads(self.run(self.python, "-c", program, *words, "--json")))


def query_gpu(fields: str) -> str:
    """Return what nvidia-smi answers for the first GPU, "" if there is none."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def build_g4(machine: Machine, packed: Path) -> dict[str, Any]:
    """Compile llama.cpp and llama-bench once, put the libraries into a new environment."""
    source, build, venv = (machine.out / name for name in ("source", "build", "venv"))
    with tarfile.open(packed / "llama.tar.xz") as archive:
        archive.extractall(source)  # written by pack_files
    (top,) = source.iterdir()
    flags = machine.run(sys.executable, ROOT / "g4cli/core/build_flags.py").split()
    if machine.gpu:
        architecture = machine.gpu.split(", ")[-1].replace(".", "")
        flags += ["-DGGML_CUDA=ON", f"-DCMAKE_CUDA_ARCHITECTURES={architecture}"]
    flags += [f"-DLLAMA_BUILD_{name}=OFF" for name in ("TESTS", "EXAMPLES", "SERVER", "UI")]
    flags += ["-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF"]
    flags += ["-DBUILD_SHARED_LIBS=ON", "-DCMAKE_BUILD_TYPE=Release"]
    machine.run("cmake", "-S", top / "vendor/llama.cpp", "-B", build, *flags)
    started = time.monotonic()
    machine.run("cmake", "--build", build, "--target", "llama-bench", "mtmd",
                "--parallel", os.cpu_count() or 1, limit_s=420)  # fmt: skip
    compiled = time.monotonic() - started
    machine.run(sys.executable, "-m", "venv", venv)
    machine.python, machine.bench = str(venv / "bin/python"), str(build / "bin/llama-bench")
    wheels = sorted(str(path) for path in packed.glob("*.whl"))
    machine.run(machine.python, "-m", "pip", "install", "--no-index", "--no-deps", *wheels)
    (packages,) = (venv / "lib").glob("python3.*/site-packages")
    shutil.copytree(top / "llama_cpp", packages / "llama_cpp")
    libraries = packages / "llama_cpp" / "lib"
    libraries.mkdir(exist_ok=True)
    for library in (build / "bin").glob("lib*.so*"):
        shutil.copy2(library, libraries / library.name)
    return {"flags": " ".join(flags), "compile_s": round(compiled, 1)}


# --- There: the checks ---


def check_tests(machine: Machine) -> dict[str, Any]:
    """Run the tests of the engine on the device."""
    shown = machine.run(machine.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    return {"pytest": shown.strip().splitlines()[-1]}


def check_chat(machine: Machine) -> dict[str, Any]:
    """Ask the bundled model the same on the GPU and on the CPU."""
    machine.g4("pull", "tiny")
    words = ("chat", "tiny", "-p", "What is GGUF?", "--temp", "0", "--state-cache", "off")
    on_gpu, on_cpu = machine.g4(*words), machine.g4(*words, "--gpu-layers", 0)
    return {"answer": on_gpu["text"], "same_on_cpu": on_gpu["text"] == on_cpu["text"]}


def check_image(machine: Machine) -> dict[str, Any]:
    """Encode an image with the small encoder, on the GPU and on the CPU."""
    image = machine.out / "red.png"
    image.write_bytes(make_png(96, 96))
    encoder = ROOT / "tests/golden/tiny_mmproj.gguf"
    words = ("chat", "tiny", "-p", "What is this?", "--image", image, "--mmproj", encoder,
             "--temp", "0", "-n", 16, "--state-cache", "off")  # fmt: skip
    on_gpu, on_cpu = machine.g4(*words), machine.g4(*words, "--gpu-layers", 0)
    return {"answer": on_gpu["text"], "same_on_cpu": on_gpu["text"] == on_cpu["text"]}


def make_png(width: int, height: int) -> bytes:
    """Return a picture in one color."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = (b"\0" + bytes((200, 30, 30)) * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def make_e2b(machine: Machine, kind: str) -> dict[str, Any]:
    """Write a file of E2B's shape with random weights (3 GB in Q4_0), unless one was given."""
    path = machine.model
    if not machine.is_own_model:
        return {"bytes": path.stat().st_size}
    machine.run(machine.python, "-m", "tests.support.builders.real_shapes", "e2b", kind, path,
                "--weights", "random")  # fmt: skip
    return {"bytes": path.stat().st_size}


def check_speed(machine: Machine, *more: object) -> dict[str, Any]:
    """Compare `g4 bench` with llama-bench on the same file."""
    path = machine.model
    ours = machine.g4("bench", path, "-p", 512, "-n", 128, "-r", 3, *more)
    figures: dict[str, Any] = {"g4": {t["test"]: t["tokens_per_s"] for t in ours["tests"]}}
    if machine.bench and not more:
        shown = machine.run(machine.bench, "-m", path, "-p", 512, "-n", 128, "-r", 3, "-ngl", 99,
                            "-fa", "auto", "-o", "json")  # fmt: skip
        rows = json.loads(shown[shown.index("[") :])
        names = {(512, 0): "pp512", (0, 128): "tg128"}
        figures["llama-bench"] = {names[r["n_prompt"], r["n_gen"]]: r["avg_ts"] for r in rows}
        figures["ratio"] = {
            name: round(figures["g4"][name] / speed, 3)
            for name, speed in figures["llama-bench"].items()
        }
    return figures


def check_memory(machine: Machine, most_ctx: int = 0) -> dict[str, Any]:
    """Compare the terms of `g4 fit` with llama.cpp's plan, their sum with the driver's figure."""
    path = machine.model
    fit = machine.g4("fit", path, "--gpu", "probe", "--verify")
    if 0 < most_ctx < fit["n_ctx"]:
        fit = machine.g4("fit", path, "--verify", "--ctx", most_ctx)
    before, peak = _used_mib(), 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.1):
            peak = max(peak, _used_mib())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        machine.g4("chat", path, "-p", "word " * 600, "-n", 4, "--no-loop-stop", "--ctx",
                   fit["n_ctx"], "--state-cache", "off")  # fmt: skip
    finally:
        stop.set()
        watcher.join()
    on_gpu = sum(t["nbytes"] for t in fit["terms"] if t["device"] != "host")
    return {
        "n_ctx": fit["n_ctx"],
        "placement": fit["placement"],
        "terms": {f"{t['device']}: {t['name']}": t["nbytes"] for t in fit["terms"]},
        "llama_cpp": fit["verify"],
        "expected_gpu_mib": round(on_gpu / 1024**2, 1),
        "driver_gpu_mib": peak - before,
    }


def _used_mib() -> int:
    text = query_gpu("memory.used")
    return int(text) if text.isdigit() else 0


def check_doctor(machine: Machine) -> dict[str, Any]:
    """Let the doctor compare CPU and GPU on the bundled model."""
    report = machine.g4("doctor", "tiny")
    return {
        "verdict": report["verdict"],
        "not_ok": {
            c["id"]: c["status"] for c in report["findings"] if c["status"] not in ("ok", "skipped")
        },
    }


def list_checks(kind: str) -> tuple[tuple[str, Callable[[Machine], dict[str, Any]]], ...]:
    """Return all checks after the build, by name, in the order of their worth."""
    return (
        ("chat with the bundled model", check_chat),
        (f"make a file of E2B's shape ({kind})", lambda m: make_e2b(m, kind)),
        ("speed of E2B's shape", check_speed),
        ("memory at 32,768 tokens, or the most that fit", lambda m: check_memory(m, 32768)),
        ("the largest context that g4 fit proposes", check_memory),
        ("half of the layers on the CPU", lambda m: check_speed(m, "--gpu-layers", 18)),
        ("an image", check_image),
        ("doctor: CPU against GPU", check_doctor),
        ("tests of the engine", check_tests),
    )


def run_checks(machine: Machine, packed: Path | None, kind: str) -> list[Check]:
    """Return the outcome of each check."""
    checks: list[tuple[str, Callable[[Machine], dict[str, Any]]]] = list(list_checks(kind))
    if packed:
        checks.insert(0, ("build with CUDA", lambda m: build_g4(m, packed)))
    found = []
    for name, run in checks:
        if machine.seconds_left < 10:
            found.append(Check(name, "skipped", note="no time was left"))
            continue
        started, result = time.monotonic(), Check(name, "passed")
        try:
            result.figures = run(machine)
        except Exception as err:
            result.state, result.note = "failed", f"{type(err).__name__}: {err}"[-2000:]
        result.seconds = round(time.monotonic() - started, 1)
        print(f"{result.state:8}{result.seconds:7.1f} s  {name}  {result.note[-200:]}", flush=True)
        found.append(result)
        if packed and name == "build with CUDA" and result.state == "failed":
            found += [Check(n, "skipped", note="nothing was built") for n, _ in checks[1:]]
            break
    return found


def write_report(machine: Machine, checks: Sequence[Check]) -> None:
    """Write the JSON and the Markdown table."""
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "gpu": machine.gpu or None,
        "n_cpus": os.cpu_count(),
        "checks": [asdict(check) for check in checks],
    }
    (machine.out / "gpu-check.json").write_text(json.dumps(document, indent=1) + "\n")
    rows = [
        f"| {c.name} | {c.state} | {c.seconds:.1f} | "
        f"{(c.note or json.dumps(c.figures)).replace('|', '/').replace(chr(10), ' ')[:600]} |"
        for c in checks
    ]
    (machine.out / "gpu-check.md").write_text(
        f"GPU: {machine.gpu or 'none'}\n\n| check | state | seconds | figures |\n"
        + "\n".join(["|---|---|---|---|", *rows, ""])
    )


def main(arguments: Sequence[str]) -> int:
    """Return 0 if all checks passed, 1 if one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("pack").add_argument("folder", type=Path)
    run = commands.add_parser("run")
    where = run.add_mutually_exclusive_group(required=True)
    where.add_argument("--packed", type=Path)
    where.add_argument("--installed", action="store_true")
    run.add_argument("--out", type=Path, default=Path("gpu-check"))
    run.add_argument("--minutes", type=float, default=7.5)
    run.add_argument("--model", type=Path, help="use this file, not one of E2B's shape")
    run.add_argument("--type", default="q4_0", choices=("q4_0", "q8_0", "bf16"))
    options = parser.parse_args(arguments)
    if options.command == "pack":
        return pack_files(options.folder)
    options.out.mkdir(parents=True, exist_ok=True)
    model = options.model.resolve() if options.model else None
    machine = Machine(options.out.resolve(), options.minutes, model)
    packed = options.packed.resolve() if options.packed else None
    checks = run_checks(machine, packed, options.type)
    write_report(machine, checks)
    if machine.is_own_model:
        machine.model.unlink(missing_ok=True)
    print(f"{machine.out}/gpu-check.json and gpu-check.md")
    return int(any(check.state != "passed" for check in checks))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
