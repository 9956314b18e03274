"""Answers that obey a grammar: sampled freely first, and again under the grammar only when that fails.

A grammar looks at every candidate, 262,144 of them: 50 ms a token. Most free samples obey it anyway, and to
ask about a single token costs microseconds (common/sampling.cpp common_sampler_sample does the same).
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from g4cli.core.errors import RuntimeFailed, UsageError
from g4cli.core.gbnf import check_grammar
from g4cli.core.json_schema import parse_schema
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import Sampling
from g4cli.runtime.engine.sampler import Sampler
from g4cli.runtime.llama.library import grammar_module, llama

# Schemas that the converter visits: it follows each reference anew, so that a few lines could ask for 2^40.
_VISITS: Final = 5000


def schema_to_grammar(schema: str) -> str:
    """Return the GBNF of a JSON schema.

    Raises UsageError if it is none, is too large for a grammar, or has a part that is not known.
    """
    parsed, module = parse_schema(schema), grammar_module()

    class Converter(module.SchemaConverter):  # type: ignore[misc,name-defined,unused-ignore]
        n_visits = 0

        def visit(self, schema: Any, name: str) -> Any:
            self.n_visits += 1
            if self.n_visits > _VISITS:
                raise ValueError(
                    f"it stands for more than {_VISITS:,} schemas, one inside the other"
                )
            return super().visit(schema, name)

    converter = Converter(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)
    try:
        converter.visit(converter.resolve_refs(parsed, "stdin"), "")
        grammar = str(converter.format_grammar())
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
        LookupError,
        RecursionError,
    ) as err:
        said = "it is nested too deeply" if isinstance(err, RecursionError) else str(err)
        raise UsageError(
            f"the JSON schema cannot be used: {said[:300]}", hint='{"type": "object", ...}'
        ) from err
    check_grammar(grammar)
    return grammar


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


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Let C code write nothing to standard error: llama.cpp would print the grammar as it is."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class GrammarSampler:
    """A sampler chain whose tokens always continue a sentence of the grammar."""

    def __init__(self, model: Model, sampling: Sampling, grammar: str) -> None:
        """Raises UsageError if the grammar cannot be parsed, or is too large for llama.cpp."""
        import numpy as np

        check_grammar(grammar)
        self._c = c = llama()
        with _without_stderr():
            self._grammar = c.llama_sampler_init_grammar(model.vocab, grammar.encode(), b"root")
        if not self._grammar:
            raise UsageError(
                "the grammar cannot be parsed: llama.cpp refuses it",
                hint="each <...> in it must be one token of this model",
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
