"""From the options of `g4 fit` to its answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli import LLAMA_CPP_PYTHON
from g4cli.cli.views import fit as draw
from g4cli.core.errors import DoesNotFit, UsageError
from g4cli.core.units import parse_count
from g4cli.estimate import check
from g4cli.fit import COMMON_CTX, report
from g4cli.host import engine_version
from g4cli.operations.fit.alternatives import instead
from g4cli.operations.fit.drafting import drafter_file, with_guesses
from g4cli.operations.fit.machine import find_machine
from g4cli.operations.fit.ranking import advice_for, matrix_rows
from g4cli.operations.fit.subject import find_subject, run_options, verified, with_encoder

if TYPE_CHECKING:
    from g4cli.cli.output import Output
    from g4cli.estimate import Options
    from g4cli.host import HostFacts
    from g4cli.operations.fit.subject import Subject

_BATCH: Final = 2048


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for on the command line."""

    model: str
    ctx: str
    kv_type: str
    ubatch: int
    sequences: int
    flash_attn: bool
    swa_full: bool
    mmap: bool
    lazy_ple: str
    mmproj: Path | None
    image_tokens: int
    gpu: str
    gpu_layers: str
    cpu_moe: int
    draft: str
    memory: str
    gpu_memory: str
    verify: bool


def show_fit(out: Output, request: Request) -> int:
    """Show the answer for one model; return the exit code."""
    if not request.model:
        raise UsageError("which model?", hint="g4 fit e2b, or g4 fit --matrix for all of them")
    subject = find_subject(request.model)
    machine = find_machine(request.gpu, request.memory, request.gpu_memory)
    host, memories = machine.host, machine.memories
    options = _options(request, host, subject)
    check(subject.shape, options)
    found = report(subject.shape, subject.tensors, options, memories, choose=request.ctx)
    common = found.options.n_ctx if request.ctx else min(found.options.n_ctx, COMMON_CTX)
    advice = advice_for(subject, options, memories, host, common)
    drafter = drafter_file(subject, request.draft)
    proof = verified(subject, found.options, drafter) if request.verify else None
    installed = engine_version()
    if installed and installed.split("+")[0] != LLAMA_CPP_PYTHON:
        out.warn(
            f"these figures were proved with llama-cpp-python {LLAMA_CPP_PYTHON}; {installed} is installed"
        )
    other = "" if found.verdict.fits else instead(subject, machine, options, found, advice)
    answer = draw.Answer(subject, machine, found, advice, proof, installed or "", other)
    brief = f"{'fits' if found.verdict.fits else 'does not fit'}: {found.verdict.reason}"
    out.result(draw.fit_data(answer), lambda: draw.render_fit(out, answer), brief=brief)
    return 0 if found.verdict.fits else DoesNotFit.exit_code


def show_matrix(out: Output, request: Request) -> int:
    """Show every model in every type; return the exit code."""
    machine = find_machine(request.gpu, request.memory, request.gpu_memory)
    rows = matrix_rows(machine.host, machine.memories, request.kv_type)
    out.result(rows, lambda: draw.render_matrix(out, rows, machine))
    return 0


def _options(request: Request, host: HostFacts, subject: Subject) -> Options:
    """Return the options to estimate; without a number the context is all that the model was made for."""
    options = replace(
        run_options(
            host, subject, kv_type=request.kv_type, mmap=request.mmap, lazy_ple=request.lazy_ple
        ),
        n_ctx=parse_count(request.ctx)
        if request.ctx not in ("", "max")
        else subject.shape.n_ctx_train,
        n_ubatch=request.ubatch,
        n_batch=max(_BATCH, request.ubatch),
        n_seq=request.sequences,
        flash_attn=request.flash_attn,
        swa_full=request.swa_full,
    )
    if request.gpu_layers != "auto" or request.cpu_moe:
        if request.gpu_layers != "auto" and not request.gpu_layers.isdigit():
            raise UsageError(
                f"not a number of layers: {request.gpu_layers!r}", hint="--gpu-layers auto"
            )
        n_gpu_layers = -1 if request.gpu_layers == "auto" else int(request.gpu_layers)
        options = replace(
            options, n_gpu_layers=n_gpu_layers, n_cpu_moe=request.cpu_moe, fixed_layout=True
        )
    if request.mmproj:
        options = with_encoder(options, subject.shape, request.mmproj, request.image_tokens)
    return with_guesses(options, subject, request.draft)
