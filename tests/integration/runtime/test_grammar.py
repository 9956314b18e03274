"""Answers under a grammar are valid, and the same as free ones where those are valid."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from g4cli.chat import Finished, TurnOptions, run_turn
from g4cli.cli.main import run
from g4cli.core.errors import UsageError
from g4cli.prompt import Message, PromptStyle, render
from g4cli.runtime.engine.grammar import GrammarSampler, convert_schema, find_unenforced_keywords
from g4cli.runtime.engine.llama_engine import LlamaEngine, open_engine
from g4cli.runtime.engine.options import ContextOptions, ModelOptions, Sampling
from g4cli.runtime.engine.text_decoder import TextDecoder
from tests.support.builders.tiny_file import build_tiny

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "kind": {"enum": ["file", "format"]},
            "bits": {"type": "integer"},
            "ok": {"type": "boolean"},
        },
        "required": ["kind", "bits", "ok"],
        "additionalProperties": False,
    }
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grammar") / "tiny.gguf"
    path.write_bytes(build_tiny())
    return path


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[LlamaEngine]:
    with open_engine(
        tiny, model_options=ModelOptions(), context_options=lambda _: ContextOptions(n_ctx=1024)
    ) as made:
        yield made


def answer(engine: LlamaEngine, grammar: str | None, sampling: Sampling, limit: int = 200) -> str:
    tokens = engine.prompts.tokens_of(render([Message("user", "What is Q4_0?")], PromptStyle()))
    engine.begin(sampling, grammar)
    last = list(
        run_turn(engine, tokens, TurnOptions(max_tokens=limit, stop_on_loop=False), TextDecoder())
    )[-1]
    assert isinstance(last, Finished)
    return last.reply.text


@pytest.mark.parametrize("seed", range(5))
def test_a_schema_is_obeyed_even_when_hot(engine: LlamaEngine, seed: int) -> None:
    text = answer(engine, convert_schema(SCHEMA), Sampling(temp=2.0, top_k=0, top_p=1.0, seed=seed))
    data = json.loads(text)
    assert set(data) == {"kind", "bits", "ok"}
    assert data["kind"] in ("file", "format")
    assert isinstance(data["bits"], int)


@pytest.mark.parametrize("seed", range(3))
def test_a_grammar_is_obeyed(engine: LlamaEngine, seed: int) -> None:
    text = answer(engine, 'root ::= ("yes" | "no") " " [0-9]{3}', Sampling(temp=2.0, seed=seed))
    assert re.fullmatch(r"(yes|no) [0-9]{3}", text)


def test_a_grammar_that_allows_everything_changes_nothing(engine: LlamaEngine) -> None:
    greedy = Sampling(temp=0)
    free = answer(engine, None, greedy)
    assert answer(engine, "root ::= [^\\x00]*", greedy) == free
    assert isinstance(engine._sampler, GrammarSampler)
    assert engine._sampler.rejected == 0


def test_rejection_falls_back_to_the_best_allowed_token(engine: LlamaEngine) -> None:
    """Greedy under a grammar is the most probable allowed token, not any."""
    text = answer(engine, 'root ::= "Q8_0" | "GGUF is" [a-z ]*', Sampling(temp=0))
    assert text.startswith(("Q8_0", "GGUF is"))
    assert isinstance(engine._sampler, GrammarSampler)
    assert engine._sampler.rejected >= 1


@pytest.mark.parametrize("grammar", ["", " ", "nonsense", 'other ::= "x"', "root ::= missing"])
def test_bad_grammars(engine: LlamaEngine, grammar: str) -> None:
    with pytest.raises(UsageError, match="grammar cannot be parsed"):
        engine.begin(Sampling(), grammar)


@pytest.mark.parametrize(
    "schema", ["", "{", '{"type": "nothing"}', '{"$ref": "http://x/y"}', '{"$ref": "#/no"}']
)
def test_bad_schemas(schema: str) -> None:
    with pytest.raises(UsageError, match="JSON schema cannot be used"):
        convert_schema(schema)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ('{"type": "string", "maxLength": 20000}', "maxLength 20,000 at # is too large"),
        ('{"type": "array", "items": {}, "maxItems": 100000}', "maxItems 100,000"),
        ('{"properties": {"a": {"items": {}, "minItems": 1000000000}}}', "at #/properties/a is"),
        ('{"minItems": 1e9}', "not a number of times"),
        ('{"minLength": 5, "maxLength": 2}', "minLength is larger than maxLength"),
        ('{"type": "string", "pattern": "^a{1000000000}$"}', "pattern repeats"),
        ('{"type": "string", "pattern": "^(ab{400}){400}(c{400})$"}',
            "pattern repeats 1,200 times"),
        ("[" * 5000, "nested too deeply|not JSON"),
        ('{"items":' * 200 + "{}" + "}" * 200, "nested more than 100 deep"),
        (json.dumps({"properties": {f"p{i}": {} for i in range(400)}}), "400 properties at #"),
        (json.dumps({"anyOf": [{"$ref": "#/$defs/d_0"}], "$defs": {
            **{f"d_{i}": {"anyOf": [{"$ref": f"#/$defs/d_{i + 1}"}] * 2} for i in range(40)},
            "d_40": {"type": "null"}}}), "expands to more than 5,000 nested schemas"),
    ],
)  # fmt: skip
def test_schemas_too_large_for_a_grammar(schema: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        convert_schema(schema)
    assert len(caught.value.message) < 500


def test_words_of_schemas_as_names_and_data() -> None:
    schema = {
        "properties": {
            "maxLength": {"const": {"maxLength": 10**9}},
            "minItems": {"type": "integer"},
        },
        "required": ["maxLength"],
    }
    assert "maxLength" in convert_schema(json.dumps(schema))


def test_llama_cpp_prints_no_grammar(
    engine: LlamaEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    """The text of a token is the one thing that needs the model's vocabulary."""
    for grammar in ("root ::= \x1b]52;c;YQ==\x07", 'root ::= <no such token> "\x1b]52;c;YQ==\x07"'):
        with pytest.raises(UsageError, match="cannot be parsed"):
            engine.begin(Sampling(), grammar)
    assert capfd.readouterr() == ("", "")


def test_what_a_schema_asks_in_vain() -> None:
    nested = {
        "properties": {"a": {"minimum": 1}, "maximum": {"type": "string"}},
        "anyOf": [{"multipleOf": 2}],
    }
    assert find_unenforced_keywords(json.dumps(nested)) == ("minimum", "multipleOf")
    assert find_unenforced_keywords(SCHEMA) == ()


def test_on_the_command_line(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    schema = tmp_path / "schema.json"
    schema.write_text(SCHEMA)
    args: list[Any] = ["chat", str(tiny), "-p", "What?", "--json-schema", str(schema)]
    assert run([*args, "-n", "200"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"kind", "bits", "ok"}
    assert run([*args, "--think", "on"]) == 2
    assert "cannot be used with --think" in capsys.readouterr().err
    assert run([*args, "--grammar", str(schema)]) == 2
    assert "exclude each other" in capsys.readouterr().err
    grammar = tmp_path / "bad.gbnf"
    grammar.write_text("root ::= foo")
    assert run(["chat", str(tiny), "-p", "x", "--grammar", str(grammar)]) == 2
    assert "has no rule 'foo' (line 1, column 10)" in capsys.readouterr().err


def test_a_loop_that_the_grammar_forces_is_not_the_files_fault(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    grammar = tmp_path / "forced.gbnf"
    grammar.write_text('root ::= "ab " root')
    assert run(["chat", str(tiny), "-p", "x", "--grammar", str(grammar), "-n", "800"]) == 9
    said = capsys.readouterr().err
    assert "the grammar may allow nothing else" in said
    assert "damaged" not in said
