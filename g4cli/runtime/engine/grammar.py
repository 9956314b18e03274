"""Answers that obey a grammar: sampled freely first, and again under the grammar only when that fails.

A grammar looks at every candidate, 262,144 of them: 50 ms a token. Most free samples obey it anyway, and to
ask about a single token costs microseconds (common/sampling.cpp common_sampler_sample does the same).
"""

from __future__ import annotations

import ctypes
import json
from typing import Any, Final

from g4cli.core.errors import RuntimeFailed, UsageError
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.sampler import Sampler, Sampling
from g4cli.runtime.llama.library import failed, grammar_module, llama


def schema_to_grammar(schema: str) -> str:
    """Return the GBNF of a JSON schema. Raises UsageError if it is none, or has a part that is not known."""
    try:
        return str(grammar_module().json_schema_to_gbnf(schema))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, AssertionError) as err:
        raise UsageError(
            f"the JSON schema cannot be used: {err}", hint='{"type": "object", ...}'
        ) from err


# What the converter reads past (llama_cpp/llama_grammar.py SchemaConverter, 0.3.36).
_NOT_ENFORCED: Final = frozenset(
    (
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "uniqueItems",
        "not",
        "if",
    )
)


def not_enforced(schema: str) -> tuple[str, ...]:
    """Return the keywords of a JSON schema that the grammar does not hold answers to, sorted."""
    found: set[str] = set()
    open_values: list[Any] = [json.loads(schema)]
    while open_values:
        value = open_values.pop()
        if isinstance(value, dict):
            found |= _NOT_ENFORCED & {
                key for key, item in value.items() if not isinstance(item, dict)
            }
            open_values += value.values()
        elif isinstance(value, list):
            open_values += value
    return tuple(sorted(found))


class GrammarSampler:
    """A sampler chain whose tokens always continue a sentence of the grammar."""

    def __init__(self, model: Model, sampling: Sampling, grammar: str) -> None:
        """Raises UsageError if llama.cpp cannot parse the grammar."""
        import numpy as np

        if not grammar.strip():
            raise UsageError(
                "the grammar cannot be parsed: it is empty", hint='root ::= "yes" | "no"'
            )
        self._c = c = llama()
        self._grammar = c.llama_sampler_init_grammar(model.vocab, grammar.encode(), b"root")
        if not self._grammar:
            raise UsageError(
                failed("the grammar cannot be parsed").message, hint="a rule `root` is needed"
            )
        self._sampler = Sampler(model, sampling)
        self._n_vocab = model.n_vocab
        kind = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        self._candidates = np.zeros(model.n_vocab, kind)
        self._ids = np.arange(model.n_vocab, dtype=np.int32)
        self.rejected = 0

    def sample(self, context: Context) -> int:
        """Return the next token, one that the grammar allows. Raises RuntimeFailed if it allows none."""
        chosen = self._choose(context, constrained=False)
        if not self._allows(chosen):
            self.rejected += 1
            chosen = self._choose(context, constrained=True)
        self._c.llama_sampler_accept(self._grammar, chosen)
        self._c.llama_sampler_accept(self._sampler.handle, chosen)
        return chosen

    def _choose(self, context: Context, *, constrained: bool) -> int:
        import numpy as np

        rows = self._candidates
        rows["id"] = self._ids  # samplers sort in place
        rows["logit"] = np.ctypeslib.as_array(context.logits(), (self._n_vocab,))
        rows["p"] = 0
        data = ctypes.cast(rows.ctypes.data, ctypes.POINTER(self._c.llama_token_data))
        array = self._c.llama_token_data_array(data, self._n_vocab, -1, False)
        if constrained:
            self._c.llama_sampler_apply(self._grammar, ctypes.byref(array))
            if not np.isfinite(rows["logit"]).any():
                raise RuntimeFailed(
                    "the grammar allows no token here", hint="look for a dead end in it"
                )
        self._c.llama_sampler_apply(self._sampler.handle, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def _allows(self, token: int) -> bool:
        single = self._c.llama_token_data(token, 1.0, 0.0)
        array = self._c.llama_token_data_array(ctypes.pointer(single), 1, -1, False)
        self._c.llama_sampler_apply(self._grammar, ctypes.byref(array))
        return bool(single.logit != float("-inf"))

    def close(self) -> None:
        """Free both samplers."""
        if self._grammar:
            self._c.llama_sampler_free(self._grammar)
            self._grammar = None
            self._sampler.close()
