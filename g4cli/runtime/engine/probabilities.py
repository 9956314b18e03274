"""How probable the model found a token and those that could have stood in its place."""

from __future__ import annotations

import math

import numpy as np

from g4cli.prompt.reply import SampledToken, TokenProbability
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model


def read_probability(context: Context, model: Model, token: int) -> float:
    """Return the probability of `token` at the context's `row`, 0 to 1, before any sampler."""
    # In float32, since this is called for each token of an answer.
    logits = np.ctypeslib.as_array(context.get_logits(), (model.n_vocab,))
    shares = np.exp(logits - logits.max())
    return float(shares[token] / shares.sum(dtype=np.float64))


def read_probabilities(context: Context, model: Model, token: int, n_top: int) -> SampledToken:
    """Return `token` with its probability at the context's `row`, and the `n_top` best ones.

    The probabilities are the softmax of the model's logits over the whole vocabulary, before any
    bias, penalty or sampler, but without a token that `Context.forbid_token` excluded, as
    llama-server's `n_probs` without `post_sampling_probs`
    (tools/server/server-common.cpp get_token_probabilities, llama.cpp@0c1e57098).
    """
    logits = np.ctypeslib.as_array(context.get_logits(), (model.n_vocab,))
    highest = float(logits.max())
    total = highest + math.log(float(np.exp(logits - highest, dtype=np.float64).sum()))
    n_top = min(n_top, model.n_vocab)
    best = np.argpartition(logits, -n_top)[-n_top:] if n_top else np.empty(0, np.int64)
    ordered = sorted((-float(logits[i]), int(i)) for i in best)
    return SampledToken(
        token,
        model.piece(token),
        float(logits[token]) - total,
        tuple(TokenProbability(i, model.piece(i), -logit - total) for logit, i in ordered),
    )
