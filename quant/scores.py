"""Perplexity on given tokens, and KL divergence from the predictions of another model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import exp, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Score:
    """Sums over `n` predicted tokens, in nats; those of two parts can be added.

    `nll` sums -log p(token), `kl` sums KL(base || model); `base` is the model compared with. The
    squares are summed for standard errors. `n_best` tokens were the model's first choice; for
    `n_same` both models have the same first choice.
    """

    n: int = 0
    nll: float = 0.0
    nll_squares: float = 0.0
    n_best: int = 0
    base_nll: float = 0.0
    kl: float = 0.0
    kl_squares: float = 0.0
    kl_largest: float = 0.0
    n_same: int = 0

    def __add__(self, other: Score) -> Score:
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Score(**{**sums, "kl_largest": max(self.kl_largest, other.kl_largest)})

    @property
    def perplexity(self) -> float:
        """Return exp of the mean negative log likelihood."""
        return exp(self.nll / self.n)

    @property
    def perplexity_error(self) -> float:
        """Return its standard error, to first order: perplexity times the error of the mean."""
        return self.perplexity * _error_of_mean(self.nll, self.nll_squares, self.n)

    @property
    def base_perplexity(self) -> float:
        """Return the perplexity of the model compared with, on the same tokens."""
        return exp(self.base_nll / self.n)

    @property
    def kl_mean(self) -> float:
        """Return the mean divergence from the base, in nats."""
        return self.kl / self.n

    @property
    def kl_error(self) -> float:
        """Return its standard error."""
        return _error_of_mean(self.kl, self.kl_squares, self.n)

    @property
    def same_top1(self) -> float:
        """Return the share of tokens where both models have the same first choice."""
        return self.n_same / self.n

    @property
    def same_top1_error(self) -> float:
        """Return its standard error, binomial."""
        return sqrt(self.same_top1 * (1 - self.same_top1) / self.n)


def score_predictions(
    logits: NDArray[np.float32], targets: NDArray[np.int64], base: NDArray[np.float32] | None = None
) -> Score:
    """Return the score of predictions: `logits` (n, vocabulary) for the tokens `targets` (n,).

    `base` are the other model's logits of the same shape.
    """
    rows = np.arange(len(targets))
    _, log_z = _shift_and_exp(logits)
    nll = log_z - logits[rows, targets]
    best = logits.argmax(axis=1)
    sums: dict[str, Any] = {
        "n": len(targets),
        "nll": float(nll.sum()),
        "nll_squares": float((nll * nll).sum()),
        "n_best": int(np.count_nonzero(best == targets)),
    }
    if base is not None:
        weights, base_log_z = _shift_and_exp(base)
        # KL = sum q (log q - log p), from the differences of the logits, which are exact where the
        # models are close. Logarithms rounded to float32 would add noise of 1e-7, which is as much
        # as F16 differs from BF16.
        gaps = (weights * (base - logits)).sum(axis=1, dtype=np.float64)
        gap = gaps / weights.sum(axis=1, dtype=np.float64)
        kl = np.maximum(gap - (base_log_z - log_z), 0)  # rounding can make it slightly negative
        sums |= {
            "base_nll": float((base_log_z - base[rows, targets]).sum()),
            "kl": float(kl.sum()),
            "kl_squares": float((kl * kl).sum()),
            "kl_largest": float(kl.max(initial=0)),
            "n_same": int(np.count_nonzero(best == base.argmax(axis=1))),
        }
    return Score(**sums)


def _shift_and_exp(logits: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return exp(logits - maximum of the row), and per row log of the sum of exp(logits).

    The maximum is subtracted so that no exponential overflows.
    """
    largest = logits.max(axis=1, keepdims=True)
    weights: NDArray[np.float32] = np.exp(logits - largest)
    log_z = np.log(weights.sum(axis=1, dtype=np.float64)) + largest[:, 0].astype(np.float64)
    return weights, log_z


def _error_of_mean(total: float, squares: float, n: int) -> float:
    if n < 2:
        return 0.0
    variance = max(0.0, squares / n - (total / n) ** 2) * n / (n - 1)
    return sqrt(variance / n)
