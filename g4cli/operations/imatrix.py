"""Make importance matrices: from a model and a text, or by adding up files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from g4cli import LLAMA_CPP_PYTHON
from g4cli.core.errors import Interrupted, UsageError
from g4cli.core.paths import cache_dir, calibration_path
from g4cli.core.reporter import Reporter
from g4cli.core.units import MORE_LAYERS
from g4cli.core.worker_address import NO_WORKERS
from g4cli.operations.models import LoadableModel, make_model_options, prepare_model
from g4cli.operations.workers import place_layers_of_run
from g4cli.quant.activation_sums import merge_files, write_sums
from g4cli.quant.file import check_target
from g4cli.quant.imatrix import ImportanceMatrix, read_imatrix
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.measure.calibration_text import CalibrationText, read_calibration_text
from g4cli.runtime.measure.client import measure_importance
from g4cli.runtime.measure.messages import RunImatrix
from g4cli.runtime.measure.reports import ImatrixReport, describe_sums
from g4cli.store import find_model_file
from g4cli.store.states.model_id import identify_model

N_CTX: Final = 512
"""Tokens of a chunk, as llama-imatrix has it."""

SAVE_EVERY_S: Final = 15.0  # a choice: so much of the work may be lost
_BUNDLED_NAME: Final = "g4 calibration text"
_MIN_CTX, _MAX_CTX = 32, 32768  # a choice: tokens of a chunk


@dataclass(frozen=True, slots=True)
class ImatrixRequest:
    """What to make. `text` None: the text that ships with g4; `n_chunks` 0: all of it.

    `raw`: the text is read as it is, not as conversations in the model's chat format.
    `out` None: next to the model's file, or in the current folder for a model of the store.
    """

    model: str
    text: Path | None = None
    raw: bool = False
    out: Path | None = None
    n_ctx: int = N_CTX
    n_chunks: int = 0
    in_files: tuple[Path, ...] = ()
    n_threads: int = 0
    gpu_layers: str = "auto"
    device: str | None = None
    cpu_moe: bool = False
    force: bool = False
    save_every_s: float = SAVE_EVERY_S


@dataclass(frozen=True, slots=True)
class ImatrixMade:
    """A finished file, and what it was made from."""

    path: Path
    nbytes: int
    report: ImatrixReport


def make_importance_matrix(request: ImatrixRequest, reporter: Reporter) -> ImatrixMade:
    """Evaluate the text and write the file; continue where an interrupted run stopped.

    Raises UsageError (a target that exists, a context that is no size), what reading the text and
    preparing the model raises, BadFile, RuntimeFailed or NoMemory, and Interrupted, which says how
    much is kept.
    """
    if not _MIN_CTX <= request.n_ctx <= _MAX_CTX:
        raise UsageError(
            f"a chunk has {_MIN_CTX} to {_MAX_CTX:,} tokens, not {request.n_ctx:,}",
            hint=f"--ctx {N_CTX}",
        )
    if request.raw and request.text is None:
        raise UsageError("--raw needs a text of your own", hint="--text FILE --raw")
    model = find_model_file(request.model)
    default = model.path.with_name(f"{model.path.stem}-imatrix.gguf")
    out = request.out or model.place_output(default)
    check_target(model.path, out, force=request.force)
    name = "" if request.text else _BUNDLED_NAME
    text = read_calibration_text(request.text or calibration_path(), raw=request.raw, name=name)
    loadable = prepare_model(request.model, reporter)
    run = _make_run(request, loadable, text, out)
    places = place_layers_of_run(
        loadable,
        NO_WORKERS,
        gpu_layers=request.gpu_layers,
        n_cpu_moe=run.model.n_cpu_moe,
        device=request.device,
        n_ctx=request.n_ctx,
        reporter=reporter,
    )
    # The job is named before: a run that was interrupted goes on beside another use of the GPU.
    options = _make_options(request, loadable, places.gpu_layers, places.n_cpu_moe)
    run = replace(run, model=options)
    if run.partial_file.is_file():
        reporter.say(f"continuing {run.partial_file.name}, if it is of this model and text")
    try:
        with reporter.progress(f"imatrix {loadable.path.name}", unit="steps") as progress:
            report = measure_importance(run, progress)
    except (Interrupted, KeyboardInterrupt):
        kept = f"{run.partial_file} is kept" if run.partial_file.is_file() else "nothing was kept"
        raise Interrupted(f"interrupted; {kept}", hint="run the same command again") from None
    return ImatrixMade(out, out.stat().st_size, report)


def merge_importance_matrices(
    in_files: tuple[Path, ...], out: Path | None, *, force: bool
) -> ImatrixMade:
    """Write the sum of several files to `out`.

    Raises UsageError (no `out`, or one that exists), and what reading the files raises.
    """
    if out is None:
        raise UsageError("adding up files needs --out", hint="-o OUT.gguf")
    for path in in_files:
        check_target(path, out, force=force)
    sums = merge_files(in_files)
    write_sums(out, sums)
    return ImatrixMade(out, out.stat().st_size, describe_sums(sums))


def read_importance(
    choice: str | None, model: str, reporter: Reporter, *, n_threads: int = 0, make: bool = True
) -> ImportanceMatrix | None:
    """Return the importance matrix that `--imatrix` means: a file, "auto", or None for none.

    `make` False: "auto" gives None too. Raises what reading the file raises, or making one for
    `model`.
    """
    if choice is None or (choice == "auto" and not make):
        return None
    path = _find_or_make(model, reporter, n_threads) if choice == "auto" else Path(choice)
    return read_imatrix(path)


def _find_or_make(model: str, reporter: Reporter, n_threads: int) -> Path:
    """Return the importance matrix of `model` for the text that ships with g4.

    It is made at the first use, and kept in g4's cache.
    """
    path = find_model_file(model).path
    digest = hashlib.sha256(identify_model(path).encode())
    digest.update(calibration_path().read_bytes())
    out = cache_dir() / "imatrix" / f"{path.stem}-{digest.hexdigest()[:12]}.gguf"
    if out.is_file():
        reporter.say(f"importance matrix: {out}")
        return out
    reporter.say(f"importance matrix: made from the text that ships with g4, kept as {out}")
    make_importance_matrix(ImatrixRequest(model, out=out, n_threads=n_threads), reporter)
    return out


def _make_run(
    request: ImatrixRequest, loadable: LoadableModel, text: CalibrationText, out: Path
) -> RunImatrix:
    """Return the message for the worker, with the layers where they were asked for."""
    n_cpu_moe = MORE_LAYERS if request.cpu_moe else 0
    run = RunImatrix(
        path=loadable.path,
        model=_make_options(request, loadable, request.gpu_layers, n_cpu_moe),
        text=text,
        out=out,
        partial_file=out.with_name(f".{out.name}.partial"),
        job="",
        n_ctx=request.n_ctx,
        n_chunks=request.n_chunks,
        in_files=request.in_files,
        n_threads=request.n_threads,
        save_every_s=request.save_every_s,
    )
    return replace(run, job=_identify_job(run))


def _make_options(
    request: ImatrixRequest, loadable: LoadableModel, gpu_layers: str, n_cpu_moe: int
) -> ModelOptions:
    return make_model_options(
        gpu_layers=gpu_layers,
        device=request.device,
        mmap=True,
        lazy_ple="auto",
        n_cpu_moe=n_cpu_moe,
        use_extra_bufts=loadable.use_extra_bufts,
    )


def _identify_job(run: RunImatrix) -> str:
    """Return a hash of all that the sums depend on."""
    files = [identify_model(path) for path in (run.path, *run.in_files)]
    facts = (LLAMA_CPP_PYTHON, files, run.model, run.text, run.n_ctx, run.n_chunks)
    return hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()
