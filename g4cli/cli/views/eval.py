"""The result of `g4 eval`, drawn as text and given as JSON."""

from __future__ import annotations

from typing import Any, Final

from g4cli.cli.output import Output
from g4cli.core.units import count_text, measured_text
from g4cli.runtime.measure.reports import Evaluation

# A choice: with fewer tokens the standard error hides the difference between two types.
_FEW_TOKENS: Final = 1000


def evaluation_to_json(model: str, against: str | None, result: Evaluation) -> dict[str, Any]:
    """Return the document of `g4 eval --json`. Every `*_error` is one standard error.

    "first_choice" is the share of tokens of the text that the model held for the most probable.
    `against` is the file of the base model, None without one.
    """
    score = result.score
    data: dict[str, Any] = {
        "model": model,
        "documents": result.n_documents,
        "documents_exact": result.n_exact,
        "documents_cut": result.n_cut,
        "documents_skipped": result.n_skipped,
        "tokens": score.n,
        "perplexity": score.perplexity,
        "perplexity_error": score.perplexity_error,
        "first_choice": score.n_best / score.n,
        "against": None,
    }
    if against:
        data["against"] = {
            "model": against,
            "perplexity": score.base_perplexity,
            "kl_mean": score.kl_mean,
            "kl_error": score.kl_error,
            "kl_max": score.kl_largest,
            "same_top1": score.same_top1,
            "same_top1_error": score.same_top1_error,
        }
    return data


def draw_evaluation(out: Output, model: str, against: str | None, result: Evaluation) -> None:
    """Draw perplexity and exact answers and, if there is a base model, the divergence from it."""
    score = result.score
    n_tokens = count_text(score.n, "token")
    # A document is one answer and what precedes it.
    out.line(f"{model}: {n_tokens} in {count_text(result.n_documents, 'answer')}")
    out.line(f"  perplexity         {measured_text(score.perplexity, score.perplexity_error)}")
    if score.n < _FEW_TOKENS:
        out.line(f"  {n_tokens}: too few to tell models apart; take a longer text")
    out.line(
        f"  exact answers      {result.n_exact:,} of {result.n_documents:,} (greedy, word for word)"
    )
    if result.n_cut:
        cut = count_text(result.n_cut, "answer")
        out.line(f"  {cut} too long for the context: only the beginning was scored")
    if result.n_skipped:
        skipped = count_text(result.n_skipped, "answer")
        out.line(f"  {skipped} not scored: the prompt alone is too long for the context")
    if against:
        out.line(f"against {against} (perplexity {score.base_perplexity:.4g}):")
        # Significant digits, not decimal places: Q8_0 gives about 1e-6 and Q2_K about 0.1.
        mean = f"{score.kl_mean:.3g} ± {score.kl_error:.2g}"
        out.line(f"  KL divergence      {mean} nats, at most {score.kl_largest:.3g}")
        out.line(f"  same first choice  {score.same_top1:.2%} ± {score.same_top1_error:.2%}")
