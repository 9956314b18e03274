"""Make importance matrices: from a model and a text, or by adding up files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli import LLAMA_CPP_PYTHON
from g4cli.core.errors import Interrupted, UsageError
from g4cli.core.paths import cache_dir, calibration_path
from g4cli.core.reporter import Reporter
from g4cli.operations.models import make_model_options, prepare_model
from g4cli.operations.workers import place_layers_of_run
from g4cli.quant.activation_sums import merge_files, write_sums
from g4cli.quant.file import check_target
from g4cli.quant.imatrix import ImportanceMatrix, read_imatrix
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.measure.calibration_text import CalibrationText, read_calibration_text
from g4cli.runtime.measure.client import run_measurement
from g4cli.runtime.measure.messages import RunImatrix
from g4cli.runtime.measure.reports import ImatrixReport, describe_sums
from g4cli.store.models import find_model_file
from g4cli.store.states.model_id import identify_model

N_CTX: Final = 512
"""Tokens of a chunk, as llama-imatrix has it."""

_SAVE_EVERY_S: Final = 15.0  # a choice: an interruption loses the work of so many seconds
_BUNDLED_NAME: Final = "g4 calibration text"
_MIN_CTX, _MAX_CTX = 32, 32768  # a choice: tokens of a chunk


@dataclass(frozen=True, slots=True)
class ImatrixRequest:
    """What to make. `text` None: the text that ships with g4.

    `raw`: the text is read as it is, not as conversations in the model's chat format. The text is
    evaluated in chunks of `n_ctx` tokens; `n_chunks` 0: all of it. The sums in `in_files`, finished
    importance matrices, are added. `out` None: next to the model's file, or in the current folder
    for a model of the store. `n_threads` 0: all cores.
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
    loading = make_model_options(
        loadable, gpu_layers=request.gpu_layers, device=request.device, cpu_moe=request.cpu_moe
    )
    # The hash contains the layers that were asked for, not those that are placed below: their
    # number depends on the free memory of the GPU, and an interrupted run has to resume with
    # another one.
    job = _identify_job(request, loadable.path, loading, text)
    run = RunImatrix(
        path=loadable.path,
        model=place_layers_of_run(loadable, loading, n_ctx=request.n_ctx, reporter=reporter),
        text=text,
        out=out,
        partial_file=out.with_name(f".{out.name}.partial"),
        job=job,
        n_ctx=request.n_ctx,
        n_chunks=request.n_chunks,
        in_files=request.in_files,
        n_threads=request.n_threads,
        save_every_s=_SAVE_EVERY_S,
    )
    if run.partial_file.is_file():
        reporter.say(f"continuing {run.partial_file.name}, if it is of this model and text")
    try:
        with reporter.progress(f"imatrix {loadable.path.name}", unit="steps") as progress:
            report = run_measurement(run, progress)
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

    "auto" makes one for `model` if there is none yet; with `make` False it gives None, since a dry
    run writes nothing. Raises what reading the file raises, or making one.
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


def _identify_job(
    request: ImatrixRequest, path: Path, loading: ModelOptions, text: CalibrationText
) -> str:
    """Return a hash of all that the sums depend on, by which a run finds its own partial file."""
    files = [identify_model(file) for file in (path, *request.in_files)]
    facts = (LLAMA_CPP_PYTHON, files, loading, text, request.n_ctx, request.n_chunks)
    return hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()
