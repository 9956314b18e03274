"""Draw the answer of `g4 fit` (terms of each device, contexts, types), or return it as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Final

from g4cli.cli.output import Output
from g4cli.cli.views.fit_network import draw_network, network_to_json
from g4cli.core.quoting import shell_word
from g4cli.core.units import GIB, size_text
from g4cli.estimate import Term
from g4cli.fit.memory import Memory
from g4cli.fit.plan import FitPlan
from g4cli.fit.ranking import TypeRanking
from g4cli.operations.fit.answer import FitAnswer, MatrixAnswer

BAR_CELLS: Final = 56  # the width of a device's bar, so that its line has less than 80 columns
# Group of terms -> the glyphs of its first, second, ... term, and their style. A color says the
# group; the glyphs tell the terms apart without colors too.
_LOOK_OF_GROUP: Final = MappingProxyType(
    {
        "weights": ("█▙▌▖", "cyan"),
        "kv": ("▓▚", "green"),
        "compute": ("▒▞", "yellow"),
        "process": ("░╎┆", "magenta"),
        "cache": (" ", "dim"),
        "disk": (" ", "dim"),
    }
)
# Groups that a run does not need in memory: they are shown in parentheses, and not in the bar.
_NOT_NEEDED: Final = ("cache", "disk")
_FREE_GLYPH: Final = "·"
_RESERVE_GLYPH: Final = "-"
_EXCESS_GLYPH: Final = "!"
_FITS_TEXT: Final = MappingProxyType({True: "✓ fits", False: "✗ does not fit"})


def fit_to_json(answer: FitAnswer) -> dict[str, Any]:
    """Return the document of `g4 fit --json`, with all sizes in bytes.

    Schema: docs/reference/schemas/fit.json.
    """
    plan, subject, host = answer.plan, answer.subject, answer.machine.host
    estimate, options = plan.estimate, plan.options
    data: dict[str, Any] = {
        "model": subject.name,
        "n_ctx": options.n_ctx,
        "kv_type": options.type_k.name.lower(),
        "weights_bytes": estimate.weights_bytes,
        "kv_bytes": estimate.kv_bytes,
        "compute_bytes": estimate.compute_bytes,
        "total_bytes": estimate.total_bytes,
        "fits": plan.verdict.fits,
        "reason": plan.verdict.reason,
        "resident_bytes": estimate.resident_bytes,
        "instead": answer.alternative,
        "context_reason": plan.context_reason,
        "largest_ctx": plan.largest_ctx,
        "n_ctx_train": subject.shape.n_ctx_train,
        "placement": plan.placement,
        "chat_option": plan.chat_option,
        "source": subject.source,
        "published": subject.published,
        "library": answer.library,
        "terms": [asdict(term) for term in estimate.terms],
        "contexts": [asdict(row) for row in plan.contexts],
        "devices": [
            {**asdict(m), "reserve_bytes": m.reserve_bytes} for m in answer.machine.memories
        ],
        "machine": answer.machine.description,
        "limited_by": host.limited_by,
        "gpus_probed": host.gpus is not None,
    }
    if answer.ranking:
        data |= {
            "types_n_ctx": answer.ranking.n_ctx,
            "types": [asdict(row) for row in answer.ranking.types],
            "best_type": answer.ranking.best,
            "type_reason": answer.ranking.reason,
        }
    if answer.network:
        data["network"] = network_to_json(answer.network)
    if answer.verification:
        data["verify"] = dict(answer.verification)
    return data


def draw_fit(out: Output, answer: FitAnswer) -> None:
    """Draw the answer: the verdict, a bar with its terms for each device, contexts and types."""
    plan, subject, machine = answer.plan, answer.subject, answer.machine
    kind = plan.options.type_k.name.lower()
    out.line(f"{subject.name} on {machine.description}", style="bold")
    line = summarize_fit(answer)
    out.line(f"{line[0].upper()}{line[1:]}.", style="green" if plan.verdict.fits else "red")
    if answer.alternative:
        out.line(f"Instead: {answer.alternative}")
    elif not plan.verdict.fits:
        out.line("No other type or model fits either; more memory is needed.")
    out.line(plan.context_reason)
    out.line(f"KV cache {kind}; {_describe_drafting(plan)}", style="dim")
    if subject.published:
        command = f"g4 pull {shell_word(subject.name)}"
        out.line(f"to get it: {command} ({subject.published})", style="dim")
    for memory in machine.memories:
        _draw_device(out, memory, answer)
    if answer.network:
        draw_network(out, answer.network, plan.options.ubatch)
    _draw_contexts(out, answer)
    if answer.ranking:
        _draw_types(out, answer.ranking)
    if answer.verification:
        _draw_verification(out, answer.verification)
    if any(m.name != "host" for m in machine.memories):
        out.line(f"Layers: {plan.placement}.")
    elif machine.host.gpus is None:
        out.line("Host memory only: llama.cpp could not list the GPUs; to find out why: g4 doctor")


def summarize_fit(answer: FitAnswer) -> str:
    """Return the verdict as one line: "fits: ..." or "does not fit: ..."."""
    verdict = answer.plan.verdict
    return f"{'fits' if verdict.fits else 'does not fit'}: {verdict.reason}"


def _describe_drafting(plan: FitPlan) -> str:
    if not plan.options.n_draft:
        return "no speculative decoding"
    source = "draft model" if plan.options.draft else "prompt lookup"
    return f"speculative decoding: {source}"


def _draw_device(out: Output, memory: Memory, answer: FitAnswer) -> None:
    terms = sorted(
        answer.plan.estimate.terms_on(memory.name),
        key=lambda t: list(_LOOK_OF_GROUP).index(t.group),
    )
    limit = answer.machine.host.limited_by  # "memory", or a control group
    limited = f" (limited by {limit})" if memory.name == "host" and limit != "memory" else ""
    place = f" on {memory.place}" if memory.place else ""
    out.line()
    out.line(
        f"{memory.name:5} ",
        *make_bar(terms, memory, min(BAR_CELLS, max(16, out.console().width - 7))),
    )
    needed = sum(t.nbytes for t in terms if t.group not in _NOT_NEEDED)
    free = f"{size_text(memory.available_bytes)} of {size_text(memory.total_bytes)}"
    state = "assumed free" if memory.is_assumed else "free"
    reserve = f"{size_text(memory.reserve_bytes)} kept in reserve ({_RESERVE_GLYPH})"
    out.line(f"      needs {size_text(needed)}; {free} {state}{place}{limited}, {reserve}")
    for term, (glyph, style) in zip(terms, _choose_looks(terms), strict=True):
        size = size_text(term.nbytes)
        size = f"({size})" if term.group in _NOT_NEEDED else f"{size} "
        text = f"{term.name:23}{size:>12} {term.note}".rstrip()
        out.line((f"      {glyph} ", style), text)


def _choose_looks(terms: Sequence[Term]) -> list[tuple[str, str]]:
    """Return glyph and style of each term. Terms of one group differ until its glyphs run out."""
    n_seen: Counter[str] = Counter()
    looks = []
    for term in terms:
        glyphs, style = _LOOK_OF_GROUP[term.group]
        looks.append((glyphs[min(n_seen[term.group], len(glyphs) - 1)], style))
        n_seen[term.group] += 1
    return looks


def make_bar(
    terms: Sequence[Term], memory: Memory, n_cells: int = BAR_CELLS
) -> list[tuple[str, str]]:
    """Return a bar of `n_cells` characters, as pairs of text and style.

    The bar stands for the device's available memory, or for what the run needs if that is more.
    Each term that the run needs has cells in proportion to its bytes. The rest shows the memory
    that stays free, and at its end the reserve. What exceeds the available memory is drawn with a
    glyph of its own.
    """
    needed_terms = [t for t in terms if t.group not in _NOT_NEEDED]
    needed = sum(t.nbytes for t in needed_terms)
    whole = max(needed, memory.available_bytes, 1)
    parts: list[tuple[str, str]] = []
    done, drawn = 0, 0  # bytes and cells so far
    limit = memory.available_bytes * n_cells // whole  # the first cell beyond what is available
    for term, (glyph, style) in zip(needed_terms, _choose_looks(needed_terms), strict=True):
        done += term.nbytes
        end = round(done / whole * n_cells)
        parts += [
            (_EXCESS_GLYPH, "red") if cell >= limit else (glyph, style)
            for cell in range(drawn, end)
        ]
        drawn = max(drawn, end)
    reserve = min(n_cells - drawn, round(memory.reserve_bytes / whole * n_cells))
    return [*parts, (_FREE_GLYPH * (n_cells - drawn - reserve) + _RESERVE_GLYPH * reserve, "dim")]


def _draw_contexts(out: Output, answer: FitAnswer) -> None:
    rows = [
        (f"{row.n_ctx:,}", size_text(row.total_bytes), _FITS_TEXT[row.fits])
        for row in answer.plan.contexts
    ]
    out.table(("context", "needs", ""), rows, right=(0, 1))
    largest, trained = answer.plan.largest_ctx, answer.subject.shape.n_ctx_train
    if 0 < largest < trained:
        out.line(f"Largest context that fits: {largest:,} (the model was trained for {trained:,}).")


def _draw_types(out: Output, ranking: TypeRanking) -> None:
    rows = [
        (
            row.type + (" ←" if row.type == ranking.best else ""),
            size_text(row.weights_bytes),
            size_text(row.total_bytes),
            f"{row.largest_ctx:,}" if row.largest_ctx else "none",
            _FITS_TEXT[row.fits] + (" *" if row.disk_bytes else ""),
        )
        for row in ranking.types
    ]
    out.table(
        ("type", "weights", f"needs at {ranking.n_ctx:,}", "largest context", ""),
        rows,
        right=(1, 2, 3),
    )
    lazy = [row.disk_bytes for row in ranking.types if row.disk_bytes]
    if lazy:
        sizes = " to ".join(dict.fromkeys(size_text(n) for n in (min(lazy), max(lazy))))
        out.line(f"* per-layer embeddings ({sizes}) stay on the disk and are read when needed")
    out.line(f"Best type: {ranking.reason}.")


def _draw_verification(out: Output, verification: Mapping[str, Any]) -> None:
    rows = [
        (
            row["term"],
            f"{row['estimate']:,}",
            f"{row['llama_cpp']:,}",
            "equal" if row["equal"] else f"{row['estimate'] - row['llama_cpp']:+,}",
        )
        for row in verification["rows"]
    ]
    title = (
        f"llama.cpp's own plan (llama-cpp-python {verification['library']}, without mmap), bytes; "
        "its log rounds to 0.01 MiB"
    )
    out.table(("", "g4", "llama.cpp", ""), rows, title=title, right=(1, 2, 3))


def draw_matrix(out: Output, answer: MatrixAnswer) -> None:
    """Draw a table of types and models.

    A cell holds the largest context that fits, or, if none does, the size of the weights.
    """
    rows, machine = answer.rows, answer.machine
    models = list(dict.fromkeys(row["model"] for row in rows))
    # Types by their size in the last model, then those that it does not have.
    ordered = sorted(rows, key=lambda r: (r["model"] != models[-1], -r["weights_bytes"]))
    types = list(dict.fromkeys(row["type"] for row in ordered))
    cells = {(row["model"], row["type"]): _format_cell(row) for row in rows}
    table = [(kind, *(cells.get((model, kind), "") for model in models)) for kind in types]
    out.table(("type", *models), table, title=f"Largest context that fits {machine.description}")
    free = " and ".join(
        f"{size_text(m.available_bytes)} free on {m.name}" for m in machine.memories
    )
    out.line(f"Memory: {free}.")
    out.line("✓  the context holds 32,768 tokens or more (tiny: 2,048, its maximum)")
    out.line("~  it holds fewer      ✗  it does not fit: the size of its weights in GiB")
    out.line(f"Details of one: g4 fit MODEL:TYPE{machine.options}")


def _format_cell(row: Mapping[str, Any]) -> str:
    """Return the largest context of a model in a type, as the legend of the matrix explains it.

    row["fits"] says whether 32,768 tokens fit, or all that the model has.
    """
    largest = row["largest_ctx"]
    if not largest:
        return f"✗ {row['weights_bytes'] / GIB:.1f}"
    return (
        f"{'✓' if row['fits'] else '~'} {largest // 1024}k" if largest >= 1024 else f"~ {largest}"
    )
