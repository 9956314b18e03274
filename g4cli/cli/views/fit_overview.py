"""Draw the answer of `g4 fit` without a model: one line a model, and the command to type."""

from __future__ import annotations

from g4cli.cli.output import Output
from g4cli.core.units import size_text
from g4cli.operations.fit.overview import ModelChoice, Overview
from g4cli.runtime.probes.read_rates import Measured

_BEST_MARK = " ←"
_MAX_CHECKS = 3  # the newest comparisons of estimated with measured speeds that are shown


def draw_overview(out: Output, overview: Overview) -> None:
    """Draw the table of models, the best of them and why, and how far the speeds may be off."""
    memories = overview.machine.memories
    free = ", ".join(f"{size_text(m.available_bytes)} free on {m.name}" for m in memories)
    out.line(f"What {overview.machine.description} can run ({free})", style="bold")
    rows = [
        (
            choice.label + (_BEST_MARK if choice is overview.best else ""),
            size_text(choice.weights_bytes),
            size_text(choice.total_bytes) if choice.type else "",  # without a type nothing fits
            f"{choice.n_ctx:,}" if choice.type else "",
            f"{choice.largest_ctx:,}" if choice.type else "",
            format_speed(choice.tokens_per_s) if choice.type else "",
            _describe_state(choice),
        )
        for choice in overview.choices
    ]
    out.table(
        ("model", "weights", "needs", "at context", "largest", "tokens/s", ""),
        rows,
        right=(1, 2, 3, 4, 5),
    )
    if overview.best:
        out.line(f"Best: {overview.best.title} in {overview.best.type}: {overview.reason}.")
    else:
        out.line(f"{overview.reason[0].upper()}{overview.reason[1:]}.")
    draw_speed_checks(out, overview)
    if overview.command:
        out.say(f"next: {overview.command}")
        if overview.best and not overview.best.is_here:
            out.say(f"details: g4 fit {overview.best.label}{overview.machine.options}")


def format_speed(tokens_per_s: float | None) -> str:
    """Return an estimated speed with the digits that its error allows; "?" if there is none."""
    if tokens_per_s is None:
        return "?"
    return f"~{tokens_per_s:.1f}" if tokens_per_s < 10 else f"~{tokens_per_s:,.0f}"


def draw_speed_checks(out: Output, overview: Overview) -> None:
    """Say how the speeds were estimated, and how far off they are where `g4 bench` ran."""
    if not overview.speeds.rates:
        if any(choice.type for choice in overview.choices):
            out.line("No speeds: they are estimated for this machine only, with llama.cpp.")
        return
    fastest = max(overview.speeds.rates.values())  # bytes per second
    text = f"Speeds are estimated from weights read at up to {fastest / 1e9:.1f} GB/s"
    text += _describe_measured(overview.speeds.measured)
    checks = overview.speeds.checks[-_MAX_CHECKS:]
    if not checks:
        out.line(f"{text}; to tell their error: g4 bench MODEL")
        return
    found = "; ".join(
        f"{c.model} {c.measured:.1f} measured, {c.estimated:.1f} estimated ({c.error:+.0%})"
        for c in checks
    )
    out.line(f"{text}. Compared with g4 bench here: {found}.")


def _describe_measured(measured: Measured | None) -> str:
    """Return when it was measured, and how to do so again if the machine was busy then."""
    if measured is None:
        return ""
    day, _, time = measured.at.partition("T")  # an ISO date and time
    busy = " on a busy machine" if measured.was_busy else ""
    return f", measured on {day} at {time[:5]}{busy} (again: g4 fit --measure)"


def _describe_state(choice: ModelChoice) -> str:
    if not choice.type:
        return "✗ does not fit"
    return "pulled" if choice.is_here else "✓ fits"
