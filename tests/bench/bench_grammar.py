"""Structured output: random schemas on tiny, the cost of masks, and tokens per second.

    python tests/bench/bench_grammar.py schemas [--count 1000] [--first 0]
    python tests/bench/bench_grammar.py masks VOCABULARY.gguf
    python tests/bench/bench_grammar.py speed FILE [--tokens 64] [--rounds 3] [--threads N]

schemas   answers of tiny to random schemas, with four kinds of sampling; each must be valid by the
          packages jsonschema and jsonschema_rs, or the schema was refused before; answers cut off
          at the limit of tokens are counted apart. `--first N` begins with another schema
masks     microseconds of processor time per mask over the published vocabulary, by schema
speed     the same prompt answered freely, under a schema, and under the same schema by the grammar
          sampler and the schema converter of llama.cpp, in turn; then under a schema of records,
          with the tokens that are certain taken at once, and with the model asked for each. A way
          is divided by the free answer of the same round; the median of the rounds counts, with
          the middle half of them. `--ways 2` only asks the first two. FILE as in bench_worker.py
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import jsonschema_rs
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.chat import Finished, Reply, TurnOptions, run_turn
from g4cli.core.errors import UsageError
from g4cli.prompt.answer_grammar import AnswerForm, make_grammar
from g4cli.prompt.messages import Message
from g4cli.prompt.render import PromptStyle, render
from g4cli.runtime.engine.grammar import pack_model
from g4cli.runtime.engine.llama_engine import LlamaEngine, open_engine
from g4cli.runtime.engine.mask_child import build_tokenizer, compile_grammar, explain_error
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, ModelOptions, Sampling
from g4cli.runtime.engine.sampler import Sampler
from g4cli.runtime.llama.library import load_llama
from tests.support.builders.tiny_file import build_tiny

SAMPLINGS = (
    Sampling(temp=0),
    Sampling(),
    Sampling(temp=2.0, top_k=0, top_p=1.0),
    Sampling(temp=1.3, top_k=0, min_p=0.02, repeat_penalty=1.2),
)
MAX_TOKENS = 3900  # of an answer, in a context of 4,096
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 5},
        "bio": {"type": "string"},
        "born": {"type": "string", "format": "date-time"},
        "mail": {"type": "string", "pattern": "^[a-z]+@[a-z]+\\.com$"},
    },
    "required": ["name", "age", "tags", "bio", "born", "mail"],
    "additionalProperties": False,
}
PERSON_TEXT = (
    '{"name": "Ann von der Lippe zu Böhmen", "age": 42, "tags": ["red", "green", "blue"], '
    '"bio": "She was born in 1980 and \\"wrote\\" many books about 漢字.\\n She lives there.", '
    '"born": "1980-02-03T10:11:12Z", "mail": "ann@example.com"}'
)


class SchemaMaker:
    """Makes random schemas: most can be enforced, a few hold keywords that cannot."""

    def __init__(self, seed: int) -> None:
        self._r = random.Random(seed)

    def make(self) -> dict[str, Any]:
        """Return a schema; its answers are short enough for tiny."""
        schema = self._make_value(0)
        if self._r.random() < 0.2:
            schema = {"$defs": {"part": self._make_value(2)}, "type": "object",
                      "properties": {"a": {"$ref": "#/$defs/part"}, "b": schema},
                      "required": ["a"], "additionalProperties": False}  # fmt: skip
        return schema

    def _make_value(self, depth: int) -> dict[str, Any]:
        r = self._r
        kinds = ["integer", "number", "string", "enum", "boolean", "null", "const"]
        kinds += ["object", "object", "array", "anyOf", "allOf", "oneOf"] * (depth < 3)
        kind = r.choice(kinds)
        if kind in ("integer", "number"):
            return self._make_number(kind)
        if kind == "string":
            return self._make_string()
        if kind == "enum":
            values = ["red", "grün", 'q"uote', 3, -1.5, True, None, [1, "x"], {"a": 1}]
            return {"enum": r.sample(values, r.randint(1, 4))}
        if kind == "const":
            return {"const": r.choice(["a b", 7, {"k": [1]}, "\t"])}
        if kind == "array":
            return self._make_array(depth)
        if kind == "object":
            return self._make_object(depth)
        if kind in ("anyOf", "oneOf"):
            return {kind: [self._make_value(depth + 1) for _ in range(r.randint(1, 3))]}
        if kind == "allOf":
            return {"allOf": [self._make_number("integer"), {"minimum": r.randint(-5, 5)}]}
        return {"type": kind}

    def _make_number(self, kind: str) -> dict[str, Any]:
        r = self._r
        low = r.randint(-1000, 1000)
        schema: dict[str, Any] = {"type": kind, "minimum": low, "maximum": low + r.randint(0, 500)}
        if r.random() < 0.3:
            schema["exclusiveMinimum" if r.random() < 0.5 else "exclusiveMaximum"] = low + 5
        if r.random() < 0.3:
            schema["multipleOf"] = r.choice([2, 5, 0.5, 0.25, 7])
        return schema

    def _make_string(self) -> dict[str, Any]:
        r = self._r
        if r.random() < 0.3:
            return {"type": "string", "format": r.choice(["date", "time", "ipv4", "uuid", "email",
                                                          "date-time", "color"])}  # fmt: skip
        if r.random() < 0.3:
            return {"type": "string", "pattern": r.choice(["^[a-z]{2,6}$", "^\\d{3}-\\d{2}$",
                    "^(yes|no)!?$", "^[^x]{1,5}$", "^(?=a)b$"])}  # fmt: skip
        low = r.randint(0, 5)
        return {"type": "string", "minLength": low, "maxLength": low + r.randint(0, 15)}

    def _make_array(self, depth: int) -> dict[str, Any]:
        r = self._r
        low = r.randint(0, 2)
        schema: dict[str, Any] = {"type": "array", "items": self._make_value(depth + 1),
                                  "minItems": low, "maxItems": low + r.randint(0, 3)}  # fmt: skip
        if r.random() < 0.2:
            schema["prefixItems"] = [self._make_value(depth + 1)]
        if r.random() < 0.1:
            schema["uniqueItems"] = True
        return schema

    def _make_object(self, depth: int) -> dict[str, Any]:
        r = self._r
        names = r.sample(["a", "b b", "ключ", "d", 'e"f', "g"], r.randint(0, 4))
        properties = {name: self._make_value(depth + 1) for name in names}
        schema: dict[str, Any] = {"type": "object", "properties": properties,
                                  "required": [n for n in names if r.random() < 0.7],
                                  "additionalProperties": False}  # fmt: skip
        if r.random() < 0.1:
            schema["dependentRequired"] = {"a": ["d"]}
        if r.random() < 0.1:
            schema["minProperties"] = 1
        return schema


def answer(engine: LlamaEngine, sampling: Sampling, grammar: str | None, limit: int) -> Reply:
    """Return the answer to a fixed question."""
    tokens = engine.prompts.tokens_of(render([Message("user", "What is Q4_0?")], PromptStyle()))
    engine.begin(sampling, grammar)
    options = TurnOptions(max_tokens=limit, on_loop="ignore")
    *_, last = run_turn(engine, tokens, options)
    assert isinstance(last, Finished)
    return last.reply


def find_errors(schema: dict[str, Any], text: str) -> list[str]:
    """Return what two validators have against an answer."""
    data = json.loads(text)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    validator = jsonschema.Draft202012Validator(schema, format_checker=checker)
    other = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    return [error.message for found in (validator, other) for error in found.iter_errors(data)]


def run_schemas(first: int, count: int) -> None:
    """Print what became of the answers to `count` random schemas, the first one of seed `first`."""
    lengths: list[int] = []
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.gguf"
        path.write_bytes(build_tiny())
        context = ContextOptions(n_ctx=4096)
        with open_engine(path, model_options=ModelOptions(), context_options=context) as engine:
            engine.masks.find_fault = explain_error  # type: ignore[method-assign]  # no process each
            for seed in range(first, first + count):
                schema = SchemaMaker(seed).make()
                try:
                    grammar = make_grammar(AnswerForm("json_schema", json.dumps(schema)))
                    reply = answer(engine, SAMPLINGS[seed % len(SAMPLINGS)], grammar, MAX_TOKENS)
                except UsageError as err:
                    outcomes["refused"] += 1
                    outcomes[f"refused: {err.message.split(':')[-1].strip()[:40]}"] += 1
                    continue
                if reply.finish_reason == "length":
                    outcomes["cut off"] += 1
                    print("CUT OFF", seed, json.dumps(schema), reply.text[-200:], flush=True)
                    continue
                lengths.append(len(reply.tokens))
                errors = find_errors(schema, reply.text)
                outcomes["INVALID" if errors else "valid"] += 1
                if errors:
                    print("INVALID", seed, json.dumps(schema), reply.text, errors[0], flush=True)
    print(f"tokens: median {statistics.median(lengths):.0f}, most {max(lengths)}")
    print(json.dumps(dict(outcomes), indent=1, ensure_ascii=False))


def run_masks(path: Path) -> None:
    """Print the microseconds of masks over a vocabulary."""
    model = Model(path, ModelOptions(vocab_only=True))
    started = time.perf_counter()
    packed = pack_model(model)
    packed_s = time.perf_counter() - started
    started = time.perf_counter()
    tokenizer = build_tokenizer(packed)
    built_s = time.perf_counter() - started
    print(json.dumps({"pack_s": round(packed_s, 2), "index_s": round(built_s, 2)}))
    cases = {
        "six fields": (PERSON, PERSON_TEXT),
        "any JSON": ({}, PERSON_TEXT),
        "a list of numbers": ({"items": {"type": "number", "minimum": 0}},
                              json.dumps([n / 4 for n in range(100)])),
        "a string": ({"type": "string"}, json.dumps(PERSON_TEXT, ensure_ascii=False)),
    }  # fmt: skip
    for name, (schema, text) in cases.items():
        grammar = make_grammar(AnswerForm("json_schema", json.dumps(schema)))
        times: list[float] = []
        for _ in range(20):
            started = time.perf_counter()
            matcher = compile_grammar(tokenizer, grammar)
            compile_ms = (time.perf_counter() - started) * 1000
            for token in model.tokenize(text, control=False):
                started = time.thread_time()  # the machine may do other things
                matcher.compute_bitmask()
                times.append((time.thread_time() - started) * 1e6)
                assert matcher.consume_token(token), matcher.get_error()
        row = {f"p{p}_us": round(float(np.percentile(times, p)), 1) for p in (50, 90, 99, 100)}
        print(json.dumps({"case": name, "masks": len(times), **row,
                          "compile_ms": round(compile_ms, 2)}))  # fmt: skip


class LlamaGrammarSampler:
    """Sampling as before: free first, and under llama.cpp's grammar if the token breaks it."""

    def __init__(self, model: Model, sampling: Sampling, schema: str) -> None:
        c = self._c = load_llama()
        module = importlib.import_module("llama_cpp.llama_grammar")
        text = module.json_schema_to_gbnf(schema)
        self._grammar = c.llama_sampler_init_grammar(model.vocab, text.encode(), b"root")
        self._sampler, self._n_vocab = Sampler(model, sampling), model.n_vocab
        kind = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        self._rows = np.zeros(model.n_vocab, kind)

    def sample_token(self, context: Any) -> int:
        """Return the next token."""
        c = self._c
        token = self._sample(context, constrained=False)
        single = c.llama_token_data(token, 1.0, 0.0)
        array = c.llama_token_data_array(ctypes.pointer(single), 1, -1, False)
        c.llama_sampler_apply(self._grammar, ctypes.byref(array))
        if single.logit == float("-inf"):
            token = self._sample(context, constrained=True)
        self._sampler.accept_token(token)
        c.llama_sampler_accept(self._grammar, token)
        return token

    def accept_token(self, _token: int) -> None:
        """Nothing is forced here."""

    def take_certain_tokens(self) -> tuple[int, ...]:
        """Return no tokens."""
        return ()

    def _sample(self, context: Any, *, constrained: bool) -> int:
        rows, c = self._rows, self._c
        rows["id"] = np.arange(self._n_vocab)
        rows["logit"] = np.ctypeslib.as_array(context.get_logits(), (self._n_vocab,))
        data = ctypes.cast(rows.ctypes.data, ctypes.POINTER(c.llama_token_data))
        array = c.llama_token_data_array(data, self._n_vocab, -1, False)
        if constrained:
            c.llama_sampler_apply(self._grammar, ctypes.byref(array))
        c.llama_sampler_apply(self._sampler.handle, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def close(self) -> None:
        """Free both samplers."""
        self._c.llama_sampler_free(self._grammar)
        self._sampler.close()


RECORDS = {
    "type": "array",
    "minItems": 50,
    "items": {
        "type": "object",
        "properties": {
            "first_name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "email_address": {"type": "string", "maxLength": 20},
            "is_member": {"type": "boolean"},
        },
        "required": ["first_name", "age", "email_address", "is_member"],
        "additionalProperties": False,
    },
}


def run_speed(path: Path, tokens: int, rounds: int, threads: int, n_ways: int) -> None:
    """Print tokens per second of the first `n_ways` ways, and their ratios to a free answer."""
    schema = json.dumps({"type": "array", "items": {"type": "string"}, "minItems": 500})
    grammar = make_grammar(AnswerForm("json_schema", schema))
    records = make_grammar(AnswerForm("json_schema", json.dumps(RECORDS)))
    sampling = Sampling(seed=1)

    def answer_by_llama(engine: LlamaEngine) -> Reply:
        engine.begin = lambda *_: setattr(  # type: ignore[method-assign]
            engine, "_sampler", LlamaGrammarSampler(engine.model, sampling, schema)
        )
        try:
            return answer(engine, sampling, None, tokens)
        finally:
            del engine.begin

    def answer_asking(engine: LlamaEngine) -> Reply:
        engine.take_certain_tokens = lambda: ()  # type: ignore[method-assign]
        try:
            return answer(engine, sampling, records, tokens)
        finally:
            del engine.take_certain_tokens

    ways: dict[str, Callable[[LlamaEngine], Reply]] = {
        "free": lambda engine: answer(engine, Sampling(seed=1, ignore_eos=True), None, tokens),
        "schema": lambda engine: answer(engine, sampling, grammar, tokens),
        "schema by llama.cpp": answer_by_llama,
        "records": lambda engine: answer(engine, sampling, records, tokens),
        "records, asked for each token": answer_asking,
    }
    names = list(ways)[:n_ways]
    rates: dict[str, list[float]] = defaultdict(list)
    context = ContextOptions(n_ctx=1024, n_threads=threads)
    with open_engine(path, model_options=ModelOptions(), context_options=context) as engine:
        for turn in range(rounds + 1):
            for name in names if turn % 2 else reversed(names):
                reply = ways[name](engine)
                if turn:  # the first warms up
                    rates[name].append(reply.decode_tps)
    print(f"{path.name}, {rounds} rounds of {tokens} tokens")
    for name, found in rates.items():
        ratios = [rate / free for rate, free in zip(found, rates["free"], strict=True)]
        low, middle, high = np.percentile(ratios, (25, 50, 75))
        print(f"{name:30} {statistics.median(found):7.2f} tokens/s, "
              f"{middle:.3f} of free ({low:.3f} to {high:.3f})")  # fmt: skip


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("schemas", "masks", "speed"))
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--ways", type=int, default=5)
    args = parser.parse_args()
    if args.what == "schemas":
        run_schemas(args.first, args.count)
    elif args.what == "masks":
        run_masks(args.file)
    else:
        run_speed(args.file, args.tokens, args.rounds, args.threads, args.ways)


if __name__ == "__main__":
    main()
