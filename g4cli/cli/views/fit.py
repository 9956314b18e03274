"""The one screen of `g4 fit`: a bar per device, its terms, contexts, types; and the same facts as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from g4cli.core.quoting import shell_word
from g4cli.core.units import GIB, size_text

if TYPE_CHECKING:
    from g4cli.cli.output import Output
    from g4cli.estimate import Term
    from g4cli.fit import Advice, Memory, Report
    from g4cli.operations.fit.machine import Machine
    from g4cli.operations.fit.subject import Subject

BAR: Final = 56
# group: glyph (tells them apart without colour), style
_LOOK: Final = MappingProxyType(
    {
        "weights": ("█", "blue"),
        "kv": ("▓", "green"),
        "compute": ("▒", "yellow"),
        "process": ("░", "magenta"),
        "cache": (" ", "dim"),
        "disk": (" ", "dim"),
    }
)
_FREE: Final = "·"
_KEPT: Final = "-"
_OVER: Final = "!"


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that is shown."""

    subject: Subject
    machine: Machine
    report: Report
    advice: Advice | None
    proof: Mapping[str, Any] | None
    library: str
    instead: str = ""


def fit_data(answer: Answer) -> dict[str, Any]:
    """Return the answer for scripts; the first nine keys are promised."""
    report, subject, host = answer.report, answer.subject, answer.machine.host
    found, options = report.estimate, report.options
    data: dict[str, Any] = {
        "model": subject.name,
        "n_ctx": options.n_ctx,
        "kv_type": options.type_k.name.lower(),
        "weights_bytes": found.weights_bytes,
        "kv_bytes": found.kv_bytes,
        "compute_bytes": found.compute_bytes,
        "total_bytes": found.total_bytes,
        "fits": report.verdict.fits,
        "reason": report.verdict.reason,
        "resident_bytes": found.resident_bytes,
        "instead": answer.instead,
        "context_reason": report.context_reason,
        "largest_ctx": report.largest_ctx,
        "n_ctx_train": subject.shape.n_ctx_train,
        "placement": report.placement,
        "chat_option": report.chat_option,
        "source": subject.source,
        "published": subject.published,
        "library": answer.library,
        "terms": [asdict(term) for term in found.terms],
        "contexts": [asdict(row) for row in report.contexts],
        "devices": [{**asdict(m), "margin_bytes": m.margin_bytes} for m in answer.machine.memories],
        "machine": answer.machine.words,
        "limited_by": host.limited_by,
        "gpus_probed": host.gpus is not None,
    }
    if answer.advice:
        data |= {
            "types_n_ctx": answer.advice.n_ctx,
            "types": [asdict(row) for row in answer.advice.types],
            "best_type": answer.advice.best,
            "type_reason": answer.advice.reason,
        }
    if answer.proof:
        data["verify"] = dict(answer.proof)
    return data


def render_fit(out: Output, answer: Answer) -> None:
    """Draw the answer: bars, contexts, types, verdict."""
    report, subject, machine = answer.report, answer.subject, answer.machine
    kind = report.options.type_k.name.lower()
    out.line(f"{subject.name} on {machine.words}", style="bold")
    out.line(report.context_reason)
    out.line(f"KV cache {kind}; {_guesses(report)}", style="dim")
    if subject.published:
        out.line(f"get it: g4 pull {shell_word(subject.name)} ({subject.published})", style="dim")
    for memory in machine.memories:
        _device(out, memory, answer)
    _contexts(out, answer)
    if answer.advice:
        _types(out, answer.advice)
    if answer.proof:
        _proof(out, answer.proof)
    if any(m.name != "host" for m in machine.memories):
        out.line(f"Layers: {report.placement}.")
    elif machine.host.gpus is None:
        out.line("GPUs were not looked for yet (g4 fit MODEL --gpu probe): host memory only.")
    word = "Fits" if report.verdict.fits else "Does not fit"
    out.line(f"{word}: {report.verdict.reason}.", style="green" if report.verdict.fits else "red")
    if answer.instead:
        out.line(f"Instead: {answer.instead}")


def _guesses(report: Report) -> str:
    """Return what guesses tokens ahead, in words."""
    if not report.options.n_guesses:
        return "no tokens guessed ahead"
    source = "a drafting network" if report.options.draft else "lookup in the text"
    return f"tokens guessed ahead by {source}"


def _device(out: Output, memory: Memory, answer: Answer) -> None:
    terms = sorted(answer.report.estimate.on(memory.name), key=lambda t: list(_LOOK).index(t.group))
    limit = answer.machine.host.limited_by
    limited = f" (limited by {limit})" if memory.name == "host" and limit != "memory" else ""
    out.line()
    out.line(f"{memory.name:5} ", *bar(terms, memory, min(BAR, max(16, out.console().width - 7))))
    needed = sum(t.nbytes for t in terms if t.group not in ("cache", "disk"))
    free, total = size_text(memory.available_bytes), size_text(memory.total_bytes)
    free = f"{free} taken as free" if memory.is_told else f"{free} free"
    kept = f"{size_text(memory.margin_bytes)} kept free ({_KEPT})"
    out.line(f"      {size_text(needed)} of {free}; {kept}; {total} in all{limited}")
    for term in terms:
        glyph, style = _LOOK[term.group]
        size = size_text(term.nbytes)
        size = f"({size})" if term.group in ("cache", "disk") else f"{size} "
        words = f"{term.name:21}{size:>12} {term.note}".rstrip()
        out.line((f"      {glyph} ", style), words)


def bar(terms: Sequence[Term], memory: Memory, n_cells: int = BAR) -> list[tuple[str, str]]:
    """Return a bar as (text, style): the terms by size, what is free, what is kept, what is too much."""
    burden = [t for t in terms if t.group not in ("cache", "disk")]
    needed = sum(t.nbytes for t in burden)
    whole = max(needed, memory.available_bytes, 1)
    parts: list[tuple[str, str]] = []
    done, drawn = 0, 0
    limit = memory.available_bytes * n_cells // whole
    for term in burden:
        done += term.nbytes
        glyph, style = _LOOK[term.group]
        end = round(done / whole * n_cells)
        parts += [(_OVER, "red") if cell >= limit else (glyph, style) for cell in range(drawn, end)]
        drawn = max(drawn, end)
    kept = min(n_cells - drawn, round(memory.margin_bytes / whole * n_cells))
    return [*parts, (_FREE * (n_cells - drawn - kept) + _KEPT * kept, "dim")]


def _contexts(out: Output, answer: Answer) -> None:
    rows = [
        (f"{row.n_ctx:,}", size_text(row.total_bytes), "✓ fits" if row.fits else "✗ does not fit")
        for row in answer.report.contexts
    ]
    out.table(("context", "needs", ""), rows, right=(0, 1))
    largest, whole = answer.report.largest_ctx, answer.subject.shape.n_ctx_train
    if 0 < largest < whole:
        out.line(f"Largest context that fits: {largest:,} (the model was made for {whole:,}).")


def _types(out: Output, advice: Advice) -> None:
    rows = [
        (
            row.type + (" ←" if row.type == advice.best else ""),
            size_text(row.weights_bytes),
            size_text(row.total_bytes),
            f"{row.largest_ctx:,}" if row.largest_ctx else "none",
            ("✓ fits" if row.fits else "✗ does not fit") + (" *" if row.disk_bytes else ""),
        )
        for row in advice.types
    ]
    out.table(
        ("type", "weights", f"needs at {advice.n_ctx:,}", "largest context", ""),
        rows,
        right=(1, 2, 3),
    )
    lazy = [row.disk_bytes for row in advice.types if row.disk_bytes]
    if lazy:
        most = f"{' to '.join(dict.fromkeys(size_text(n) for n in (min(lazy), max(lazy))))}"
        out.line(f"* per-layer embeddings ({most}) stay on the disk until they are looked at")
    out.line(f"Which type: {advice.reason}.")


def _proof(out: Output, proof: Mapping[str, Any]) -> None:
    rows = [
        (
            row["term"],
            f"{row['estimate']:,}",
            f"{row['llama_cpp']:,}",
            "equal"
            if row["estimate"] == row["llama_cpp"]
            else f"{row['estimate'] - row['llama_cpp']:+,}",
        )
        for row in proof["rows"]
    ]
    title = f"llama.cpp's own plan (llama-cpp-python {proof['library']}, without mmap), bytes"
    out.table(("", "g4", "llama.cpp", ""), rows, title=title, right=(1, 2, 3))


def render_matrix(out: Output, rows: Sequence[Mapping[str, Any]], machine: Machine) -> None:
    """Draw types by models: the largest context that fits, or how large the weights are that do not."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    largest = sorted(rows, key=lambda r: (r["model"] != models[-1], -r["weights_bytes"]))
    types = list(dict.fromkeys(row["type"] for row in largest))
    cells = {(row["model"], row["type"]): _cell(row) for row in rows}
    table = [(kind, *(cells.get((model, kind), "") for model in models)) for kind in types]
    out.table(("type", *models), table, title=f"Largest context that fits {machine.words}")
    free = " and ".join(
        f"{size_text(m.available_bytes)} free on {m.name}" for m in machine.memories
    )
    out.line(f"{free}. ✓ holds 32,768 tokens (tiny: its 2,048), ~ fewer,")
    out.line("✗ does not fit: its weights alone, in GiB. More of one: g4 fit MODEL:TYPE")


def _cell(row: Mapping[str, Any]) -> str:
    largest = row["largest_ctx"]
    if not largest:
        return f"✗ {row['weights_bytes'] / GIB:.1f}"
    return (
        f"{'✓' if row['fits'] else '~'} {largest // 1024}k" if largest >= 1024 else f"~ {largest}"
    )
