"""Perplexity and divergence from logits, against plain float64 arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from g4cli.quant.scores import Score, score_predictions


def softmax(logits: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    e = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def test_measures_equal_plain_arithmetic() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 8, (50, 700)).astype(np.float32)
    base = (logits + rng.normal(0, 1, logits.shape)).astype(np.float32)
    targets = rng.integers(0, 700, 50)
    found = score_predictions(logits, targets, base)
    p, q = softmax(logits), softmax(base)
    nll = -np.log(p[np.arange(50), targets])
    kl = (q * np.log(q / p)).sum(axis=1)
    assert found.n == 50
    assert found.perplexity == pytest.approx(np.exp(nll.mean()), rel=1e-5)
    assert found.perplexity_error == pytest.approx(
        np.exp(nll.mean()) * nll.std(ddof=1) / 50**0.5, rel=1e-5
    )
    assert found.base_perplexity == pytest.approx(
        np.exp(-np.log(q[np.arange(50), targets]).mean()), rel=1e-5
    )
    assert found.kl_mean == pytest.approx(kl.mean(), rel=1e-5)
    assert found.kl_error == pytest.approx(kl.std(ddof=1) / 50**0.5, rel=1e-4)
    assert found.kl_largest == pytest.approx(kl.max(), rel=1e-5)
    assert found.n_same == int((p.argmax(1) == q.argmax(1)).sum())
    assert found.n_best == int((p.argmax(1) == targets).sum())
    assert 0 < found.same_top1_error < 0.1


@pytest.mark.parametrize("distance", [1e-3, 1e-2, 0.3])
def test_small_differences_of_a_large_vocabulary_are_not_lost(distance: float) -> None:
    rng = np.random.default_rng(8)
    base = rng.normal(0, 3, (4, 262_144)).astype(np.float32)
    base[:, 5] += 15  # one likely token, as models have
    logits = (base + rng.normal(0, distance, base.shape)).astype(np.float32)
    p, q = softmax(logits), softmax(base)
    kl = (q * np.log(q / p)).sum(axis=1)
    found = score_predictions(logits, np.array([5, 6, 7, 8]), base)
    assert found.kl_mean == pytest.approx(kl.mean(), rel=1e-5, abs=1e-8)
    assert found.perplexity == pytest.approx(
        np.exp(-np.log(p[range(4), [5, 6, 7, 8]]).mean()), rel=1e-8
    )


def test_parts_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(4)
    logits, base = rng.normal(0, 3, (2, 30, 90)).astype(np.float32)
    targets = rng.integers(0, 90, 30)
    whole = score_predictions(logits, targets, base)
    parts = score_predictions(logits[:11], targets[:11], base[:11]) + score_predictions(
        logits[11:], targets[11:], base[11:]
    )
    assert parts.perplexity == pytest.approx(whole.perplexity, rel=1e-12)
    assert parts.kl_largest == whole.kl_largest
    assert (parts.n, parts.n_same, parts.n_best) == (whole.n, whole.n_same, whole.n_best)


def test_a_model_does_not_differ_from_itself() -> None:
    logits = np.random.default_rng(5).normal(0, 30, (20, 1000)).astype(np.float32)
    found = score_predictions(logits, np.zeros(20, np.int64), logits)
    assert found.kl_mean == 0
    assert found.same_top1 == 1
    assert found.same_top1_error == 0


def test_worked_example() -> None:
    """Four equally likely tokens: perplexity 4. Against (1/2, 1/2, 0, 0): log 2 nats apart."""
    flat = np.zeros((1, 4), np.float32)
    half = np.array([[0, 0, -200, -200]], np.float32)
    found = score_predictions(flat, np.array([2]), half)
    assert found.perplexity == pytest.approx(4)
    assert found.kl_mean == pytest.approx(np.log(2), rel=1e-6)
    assert found.perplexity_error == 0


def test_sure_and_wrong_stays_finite() -> None:
    logits = np.array([[1e4, -1e4]], np.float32)
    assert score_predictions(logits, np.array([1])).nll == pytest.approx(2e4)
    assert Score().n == 0
