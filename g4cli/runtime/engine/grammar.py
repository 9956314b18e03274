"""Sampling under a grammar, and the conversion of JSON schemas to grammars.

To apply a grammar means to check all 262,144 tokens of the vocabulary, which takes 50 ms; to check
one token takes microseconds. So each token is first sampled without the grammar. Most of these obey
it anyway; only if one does not, the grammar is applied to all logits and the token is sampled again
(common/sampling.cpp common_sampler_sample does the same, llama.cpp@0c1e57098).
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
from g4cli.prompt.reply import CALL_CLOSE, CALL_OPEN, CHANNEL_CLOSE, CHANNEL_OPEN
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import GrammarScope, Sampling
from g4cli.runtime.engine.sampler import Sampler
from g4cli.runtime.llama.library import load_grammar_module, load_llama

# Most schemas that the converter may visit. It follows every reference anew: a few lines could mean
# 2^40.
_MAX_VISITS: Final = 5000


def convert_schema(schema: str) -> str:
    """Return the grammar of a JSON schema, in GBNF.

    Raises UsageError if `schema` is not a JSON schema, is too large, or has an unknown part.
    """
    parsed, module = parse_schema(schema), load_grammar_module()

    class Converter(module.SchemaConverter):  # type: ignore[misc,name-defined,unused-ignore]
        n_visits = 0

        def visit(self, schema: Any, name: str) -> Any:
            self.n_visits += 1
            if self.n_visits > _MAX_VISITS:
                raise ValueError(f"it expands to more than {_MAX_VISITS:,} nested schemas")
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


# Keywords that the converter ignores (llama_cpp/llama_grammar.py SchemaConverter, 0.3.36).
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


def find_unenforced_keywords(schema: str) -> tuple[str, ...]:
    """Return the keywords in a JSON schema that its grammar does not enforce, sorted."""
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
def _silence_stderr() -> Iterator[None]:
    """Redirect standard error to the null device.

    llama.cpp prints a grammar that it refuses, unescaped.
    """
    saved, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(devnull)


class GrammarSampler:
    """A sampler chain restricted, where `scope` says so, to the tokens that the grammar allows."""

    def __init__(
        self, model: Model, sampling: Sampling, grammar: str, scope: GrammarScope = "all"
    ) -> None:
        """Raises UsageError if the grammar cannot be parsed, or is too large for llama.cpp."""
        import numpy as np

        check_grammar(grammar)
        self._c = c = load_llama()
        with _silence_stderr():
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
        self._scope = scope
        self._is_active = scope == "all"
        self._is_first = True
        opening, closing = (
            (CALL_OPEN, CALL_CLOSE) if scope == "calls" else (CHANNEL_OPEN, CHANNEL_CLOSE)
        )
        self._opening = model.tokenize(opening, control=True)[0]
        self._closing = model.tokenize(closing, control=True)[0]

    def sample_token(self, context: Context) -> int:
        """Return the next token. Raises RuntimeFailed if the grammar allows none."""
        chosen = self._sample_token(context, constrained=False)
        if self._scope == "after-thought" and self._is_first and chosen != self._opening:
            self._is_active = True  # there is no thought
        if self._is_active and not self._is_allowed(chosen):
            self.rejected += 1
            chosen = self._sample_token(context, constrained=True)
        self.accept_token(chosen)
        return chosen

    def accept_token(self, token: int) -> None:
        """Record the next token of the answer."""
        self._is_first = False
        self._c.llama_sampler_accept(self._sampler.handle, token)
        if self._is_active:
            self._c.llama_sampler_accept(self._grammar, token)
        if self._scope == "calls" and token == (
            self._closing if self._is_active else self._opening
        ):
            self._is_active = not self._is_active
            if self._is_active:
                self._c.llama_sampler_reset(self._grammar)  # each call from its beginning
        elif self._scope == "after-thought" and token == self._closing:
            self._is_active = True

    def _sample_token(self, context: Context, *, constrained: bool) -> int:
        import numpy as np

        rows = self._candidates
        rows["id"] = self._ids  # samplers sort in place
        rows["logit"] = np.ctypeslib.as_array(context.get_logits(), (self._n_vocab,))
        rows["p"] = 0
        data = ctypes.cast(rows.ctypes.data, ctypes.POINTER(self._c.llama_token_data))
        array = self._c.llama_token_data_array(data, self._n_vocab, -1, False)
        if constrained:
            self._c.llama_sampler_apply(self._grammar, ctypes.byref(array))
            if not np.isfinite(rows["logit"]).any():
                raise RuntimeFailed(
                    "the grammar allows no token here",
                    hint="a rule of the grammar ends where the answer cannot",
                )
        self._c.llama_sampler_apply(self._sampler.handle, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def _is_allowed(self, token: int) -> bool:
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
