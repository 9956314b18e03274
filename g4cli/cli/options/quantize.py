"""Arguments and options of `g4 quantize`; --threads is that of `g4 convert` too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from g4cli.cli.completion import complete_pulled, complete_type
from g4cli.cli.options.common import check_threads, expand_model

# fmt: off
SourceArg: TypeAlias = Annotated[
    str, typer.Argument(help="GGUF file or pulled model to quantize, preferably BF16.",
                        metavar="FILE", autocompletion=complete_pulled,
                        callback=expand_model)]
TargetArg: TypeAlias = Annotated[
    Path | None, typer.Argument(help="GGUF file to write. Default: next to FILE.",
                                metavar="OUT")]
TypeOpt: TypeAlias = Annotated[
    str, typer.Option("--type", "-t", metavar="TYPE", autocompletion=complete_type,
                      help="q4_0, sfp8, bf16, q8_0, q6_k, q5_k_m, q4_k_m, ...")]
PureOpt: TypeAlias = Annotated[bool, typer.Option("--pure", help="Use one type for all matrices.")]
TensorTypeOpt: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN=TYPE",
                                   help="Type of the tensors that match. Repeatable.")]
ImatrixOpt: TypeAlias = Annotated[
    str | None, typer.Option(metavar="FILE|auto", help="Importance matrix (GGUF or .dat); auto: "
                                                       "make one, see g4 imatrix.")]
KeepPleOpt: TypeAlias = Annotated[
    str | None, typer.Option(help="Type of the per-layer embedding table.", metavar="TYPE")]
ContainerOpt: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TYPE", help="How to store SFP8: archive (1 byte per weight), "
                                                  "bf16 (exact) or q8_0.")]
EncoderOpt: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="SFP8 rounding: nearest or gemma.cpp.")]
RequantizeOpt: TypeAlias = Annotated[
    bool, typer.Option("--allow-requantize", help="Quantize a file that is already quantized.")]
DryRunOpt: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan and sizes; write nothing.")]
ReportOpt: TypeAlias = Annotated[
    bool, typer.Option("--report", help="Measure the quantization error of each tensor.")]
ThreadsOpt: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Number of threads. Default: all cores.", min=1, callback=check_threads)]
# fmt: on
