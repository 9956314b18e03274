"""Answers under a grammar belong to it, and are the same as free ones where those belong to it."""

from __future__ import annotations

import copy
import io
import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import jsonschema
import pytest

from g4cli.chat import Finished, Reply, TurnOptions, run_turn
from g4cli.cli.main import run
from g4cli.core.child_memory import ChildOutput
from g4cli.core.errors import RuntimeFailed, UsageError
from g4cli.core.json_schema import MAX_NESTING, MAX_PROPERTIES
from g4cli.prompt.answer_grammar import AnswerForm, make_call_grammar, make_grammar
from g4cli.prompt.messages import Message
from g4cli.prompt.render import PromptStyle, render
from g4cli.prompt.tools import parse_call
from g4cli.runtime.engine.llama_engine import LlamaEngine, open_engine
from g4cli.runtime.engine.number_limit import MAX_DIGITS
from g4cli.runtime.engine.options import (
    ContextOptions,
    GrammarScope,
    ModelOptions,
    Sampling,
    TokenBias,
)
from tests.support.builders.tiny_file import build_tiny

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "kind": {"enum": ["file", "format"]},
            "bits": {"type": "integer", "minimum": 1, "maximum": 64, "multipleOf": 4},
            "ok": {"type": "boolean"},
        },
        "required": ["kind", "bits", "ok"],
        "additionalProperties": False,
    }
)
HOT = {"temp": 2.0, "top_k": 0, "top_p": 1.0}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grammar") / "tiny.gguf"
    path.write_bytes(build_tiny())
    return path


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[LlamaEngine]:
    with open_engine(
        tiny, model_options=ModelOptions(), context_options=ContextOptions(n_ctx=1024)
    ) as made:
        yield made


def gbnf(text: str) -> str:
    return make_grammar(AnswerForm("gbnf", text))


def answer(
    engine: LlamaEngine,
    grammar: str | None,
    sampling: Sampling,
    limit: int = 200,
    *,
    scope: GrammarScope = "all",
    forced: str = "",
    **options: Any,
) -> Reply:
    """Return the answer to a question; it begins with the tokens of `forced`."""
    tokens = engine.prompts.tokens_of(render([Message("user", "What is Q4_0?")], PromptStyle()))
    first, sample = engine.model.tokenize(forced, control=True), engine.sample
    engine.begin(sampling, grammar, scope)
    turn = TurnOptions(max_tokens=limit, on_loop="ignore", **options)
    with patch.object(engine, "sample", lambda: first.pop(0) if first else sample()):
        last = list(run_turn(engine, tokens, turn))[-1]
    assert isinstance(last, Finished)
    return last.reply


@pytest.mark.parametrize("seed", range(5))
def test_a_schema_is_obeyed_even_when_hot(engine: LlamaEngine, seed: int) -> None:
    grammar = make_grammar(AnswerForm("json_schema", SCHEMA))
    data = json.loads(answer(engine, grammar, Sampling(**HOT, seed=seed)).text)
    assert set(data) == {"kind", "bits", "ok"}
    jsonschema.validate(data, json.loads(SCHEMA))


@pytest.mark.parametrize("wrap", [lambda s: {"items": s}, lambda s: {"properties": {"a": s}},
                                  lambda s: {"anyOf": [s]}])  # fmt: skip
def test_llguidance_reads_the_deepest_schema(wrap: Any) -> None:
    from g4cli.runtime.engine.mask_child import explain_error

    schema = {"format": "date", "pattern": "1"}
    depth = 1
    step = 1 if "items" in wrap({}) else 2
    while depth + step <= MAX_NESTING:
        schema, depth = wrap(schema), depth + step
    assert explain_error(make_grammar(AnswerForm("json_schema", json.dumps(schema)))) == ""
    with pytest.raises(UsageError, match=f"more than {MAX_NESTING} deep"):
        make_grammar(AnswerForm("json_schema", json.dumps(wrap(schema))))


FORMS = {
    "gbnf": (AnswerForm("gbnf", 'root ::= ("yes" | "no") " " [0-9]{3}'), r"(yes|no) [0-9]{3}"),
    "neighbors": (AnswerForm("gbnf", 'root ::= "(" root? ")" [a-c]{1,3} "b"'),
                  r"[()]+([)a-c]*)b"),
    "lark": (AnswerForm("lark", 'start: word (" " word){2}\nword: /[a-z]{1,4}/'),
             r"[a-z]{1,4} [a-z]{1,4} [a-z]{1,4}"),
    "regex": (AnswerForm("regex", r"\d{3}/\d{2}"), r"\d{3}/\d{2}"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_a_grammar_is_obeyed(engine: LlamaEngine, name: str, seed: int) -> None:
    form, wanted = FORMS[name]
    text = answer(engine, make_grammar(form), Sampling(temp=2.0, seed=seed)).text
    assert re.fullmatch(wanted, text)


@pytest.mark.slow
def test_a_grammar_that_allows_everything_changes_nothing(engine: LlamaEngine) -> None:
    greedy = Sampling(temp=0)
    free = answer(engine, None, greedy).text
    assert answer(engine, gbnf("root ::= [^\\x00]*"), greedy).text == free


@pytest.mark.slow
def test_the_best_allowed_token_is_taken(engine: LlamaEngine) -> None:
    """Greedy under a grammar is the most probable allowed token, not any."""
    text = answer(engine, gbnf('root ::= "Q8_0" | "GGUF is" [a-z ]*'), Sampling(temp=0)).text
    assert text.startswith(("Q8_0", "GGUF is"))


@pytest.mark.slow
def test_probabilities_are_those_without_the_grammar(engine: LlamaEngine) -> None:
    """The logits that clients are told are the model's own: the mask is taken off again."""
    tokens = engine.prompts.tokens_of(render([Message("user", "What is Q4_0?")], PromptStyle()))
    engine.begin(Sampling(temp=0), gbnf('root ::= "zz"'), keep_logits=True)
    engine.evaluate(tokens)
    before = engine.context.copy_logits()
    engine.sample()
    assert engine.context.copy_logits() == before


class AskedOneByOne:
    """An engine whose model is asked for each token, those that are certain too."""

    def __init__(self, engine: LlamaEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def take_certain_tokens(self) -> tuple[int, ...]:
        return ()


NUMBERS: Any = {
    "number": {"type": "number"},
    "integer": {"type": "integer", "minimum": 10},
    "fraction": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "multiple": {"type": "number", "multipleOf": 0.25},
    "in an object": {"type": "object", "properties": {"1": {"type": "number"}},
                     "required": ["1"], "additionalProperties": False},
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("sampling", [Sampling(temp=0), Sampling(**HOT, seed=3)], ids=["0", "hot"])
def test_numbers_end(engine: LlamaEngine, name: str, sampling: Sampling) -> None:
    """A model that writes digits wherever it may, for ever, ends each number all the same."""
    digits = [engine.model.tokenize(d, control=False)[0] for d in "123456789"]
    biased = replace(sampling, logit_bias=tuple(TokenBias(token, 100.0) for token in digits))
    grammar = make_grammar(AnswerForm("json_schema", json.dumps(NUMBERS[name])))
    found = answer(engine, grammar, biased, 300)
    assert found.finish_reason == "stop"
    jsonschema.validate(json.loads(found.text), NUMBERS[name])
    assert sum(map(str.isdigit, found.text)) <= MAX_DIGITS + 4
    assert name != "number" or len(found.text) >= MAX_DIGITS


def test_numbers_of_calls_end_and_those_of_other_grammars_do_not(engine: LlamaEngine) -> None:
    one = engine.model.tokenize("1", control=False)[0]
    ones = Sampling(temp=0, logit_bias=(TokenBias(one, 100.0),))
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": schema}}
    call = answer(engine, make_grammar(None, [tool], several=False), ones, 300, max_calls=1)
    assert call.tool_calls[0].arguments == {"n": int("1" * MAX_DIGITS)}
    free = answer(engine, make_grammar(AnswerForm("regex", "[0-9]+")), ones, 100)
    assert free.text == "1" * 100


@pytest.mark.slow
def test_text_that_is_certain_is_taken_in_batches(
    engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is the same, and it takes fewer evaluations."""
    names = ("measured_temperature", "größe_名前", "is_member")
    properties = {name: {"enum": [True]} for name in names}
    schema = {"type": "object", "properties": properties, "required": list(names),
              "additionalProperties": False}  # fmt: skip
    grammar = make_grammar(AnswerForm("json_schema", json.dumps(schema)))
    batches: list[int] = []

    def count(tokens: Any) -> bool:
        batches.append(len(tokens))
        return decode(tokens)

    decode = engine.context.decode_tokens
    slow: Any = AskedOneByOne(engine)
    expected = answer(slow, grammar, Sampling(temp=0))
    monkeypatch.setattr(engine.context, "decode_tokens", count)
    found = answer(engine, grammar, Sampling(temp=0))
    assert json.loads(found.text) == json.loads(expected.text) == dict.fromkeys(names, True)
    assert len([size for size in batches if 1 < size <= 17]) >= len(names)
    again = answer(engine, grammar, Sampling(temp=0))
    assert again.tokens == found.tokens
    for limit in range(1, len(found.tokens)):
        assert answer(engine, grammar, Sampling(temp=0), limit).tokens == found.tokens[:limit]


def test_limits_that_only_the_text_ahead_exceeds_end_no_answer(engine: LlamaEngine) -> None:
    found = answer(engine, gbnf('root ::= "drip "{1000000}'), Sampling(temp=0), limit=400)
    assert found.finish_reason == "length"
    assert found.text == ("drip " * 400)[: len(found.text)]


@pytest.mark.slow
def test_no_token_is_certain_where_probabilities_are_asked_for(engine: LlamaEngine) -> None:
    tokens = engine.prompts.tokens_of(render([Message("user", "What is Q4_0?")], PromptStyle()))
    for keep_logits in (False, True):
        engine.begin(Sampling(temp=0), gbnf('root ::= "aber das ist ja gut"'),
                     keep_logits=keep_logits)  # fmt: skip
        engine.evaluate(tokens)
        engine.sample()
        assert bool(engine.take_certain_tokens()) is not keep_logits


@pytest.mark.slow
def test_what_is_certain_does_not_depend_on_the_speed_of_another_process(
    engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = json.dumps({"type": "object", "properties": {"temperature": {"type": "boolean"}},
                         "required": ["temperature"], "additionalProperties": False})  # fmt: skip
    grammar = make_grammar(AnswerForm("json_schema", schema))
    found = answer(engine, grammar, Sampling(temp=0))
    read = engine.masks.read_replies

    def read_late(timeout_s: float) -> None:
        if timeout_s:
            time.sleep(0.3)
            read(timeout_s)

    monkeypatch.setattr(engine.masks, "read_replies", read_late)
    batches: list[int] = []
    decode = engine.context.decode_tokens
    monkeypatch.setattr(engine.context, "decode_tokens",
                        lambda tokens: batches.append(len(tokens)) or decode(tokens))  # fmt: skip
    assert answer(engine, grammar, Sampling(temp=0)).tokens == found.tokens
    assert any(1 < size <= 17 for size in batches)


@pytest.mark.parametrize("grammar", ["", " ", "nonsense", 'other ::= "x"', "root ::= missing"])
def test_bad_grammars(grammar: str) -> None:
    with pytest.raises(UsageError, match="grammar cannot be parsed"):
        gbnf(grammar)


@pytest.mark.slow
def test_a_token_that_the_model_lacks(engine: LlamaEngine) -> None:
    with pytest.raises(UsageError, match=r"cannot be used.*no such token"):
        answer(engine, gbnf("root ::= <no such token>"), Sampling())
    assert answer(engine, gbnf('root ::= "x"'), Sampling()).text == "x"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"a": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}},
         "#/properties/a: oneOf"),
        ({"items": {"type": "string", "pattern": "(?=a)b"}}, "#/items: .*look-around"),
        ({"properties": {"a": {"type": "object", "properties": {"x": {}, "y": {}},
                               "maxProperties": 1}}}, "#/properties/a: min/maxProperties"),
        ({"properties": {"a": {"$ref": "#/properties/b"}, "b": {"oneOf": [{}, {}]}}},
         "#/properties/b: oneOf"),
        ({"$ref": "#"}, "used: a reference leads to itself and to nothing else$"),
    ],
)  # fmt: skip
def test_schemas_that_only_llguidance_refuses(engine: LlamaEngine, schema: Any, said: str) -> None:
    """They are told with their place, like those that g4 refuses itself."""
    with pytest.raises(UsageError, match=said):
        answer(engine, make_grammar(AnswerForm("json_schema", json.dumps(schema))), Sampling())


@pytest.mark.slow
def test_a_grammar_that_takes_too_long(
    engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the process that checks it, and no other: llguidance would take 6 GiB in the end."""
    monkeypatch.setattr("g4cli.runtime.engine.masks.CHECK_S", 1.5)
    parts = [{"type": "string", "pattern": f".*a.{{{n}}}$"} for n in range(5, 25)]
    with pytest.raises(UsageError, match="cannot be used: compiling it takes more than"):
        answer(engine, make_grammar(AnswerForm("json_schema", json.dumps({"allOf": parts}))),
               Sampling())  # fmt: skip
    assert answer(engine, gbnf('root ::= "x"'), Sampling()).text == "x"


@pytest.mark.parametrize(
    ("check", "kind", "said"),
    [
        (Mock(side_effect=BlockingIOError), RuntimeFailed, "starts no process"),
        (Mock(return_value=(ChildOutput("", "", True, False, 0), -9)), UsageError,
         "takes more than 20 s"),
    ],
)  # fmt: skip
def test_a_grammar_that_a_busy_system_did_not_check_is_checked_again(
    engine: LlamaEngine,
    monkeypatch: pytest.MonkeyPatch,
    check: Mock,
    kind: type[Exception],
    said: str,
) -> None:
    grammar = gbnf(f'root ::= "{said}"')
    with monkeypatch.context() as patch:
        patch.setattr("g4cli.runtime.engine.masks.run_child", check)
        with pytest.raises(kind, match=said):
            answer(engine, grammar, Sampling())
    assert not engine.masks.find_fault(grammar)


@pytest.mark.slow
def test_an_object_may_have_as_many_optional_properties_as_are_allowed(
    engine: LlamaEngine,
) -> None:
    names = [f"p{index}" for index in range(MAX_PROPERTIES)]
    schema = {"type": "object", "properties": {name: {"enum": [index]} for index, name in
              enumerate(names)}, "required": names[-1:], "additionalProperties": False}  # fmt: skip
    grammar = make_grammar(AnswerForm("json_schema", json.dumps(schema)))
    quote = engine.model.tokenize('"', control=False)[0]
    found = answer(engine, grammar, Sampling(temp=0, logit_bias=(TokenBias(quote, 9.0),)), 40)
    assert found.text.lstrip("{ \n\t").startswith('"p')


def test_the_process_is_started_again_after_it_ended(engine: LlamaEngine) -> None:
    assert answer(engine, gbnf('root ::= "x"'), Sampling()).text == "x"
    end_mask_process(engine)
    assert answer(engine, gbnf('root ::= "y"'), Sampling()).text == "y"
    stream = engine.masks.open_stream(gbnf('root ::= "z"'))
    stream.take_mask()
    end_mask_process(engine)
    stream.add_tokens(engine.model.tokenize("z", control=False)[0])
    with pytest.raises(RuntimeFailed, match="its process ended"):
        stream.take_mask()
    stream.close()
    assert answer(engine, gbnf('root ::= "z"'), Sampling()).text == "z"


def end_mask_process(engine: LlamaEngine) -> None:
    child = engine.masks._child
    assert child is not None
    child.kill()
    child.wait()


def test_what_is_said_of_an_answer_that_failed_harms_no_other(engine: LlamaEngine) -> None:
    brace = engine.model.tokenize("{", control=False)[0]
    masks, grammar = engine.masks, make_grammar(AnswerForm("json_schema", SCHEMA))
    failed = masks.open_stream(grammar)
    failed.take_mask()
    failed.add_tokens(brace)
    masks.stop("it gave no answer")
    other = masks.open_stream(grammar)
    other.take_mask()
    failed.reset()  # it calls its next tool
    other.add_tokens(brace)
    assert other.take_mask().any()
    for stream in (failed, other):
        stream.close()


@pytest.mark.slow
def test_a_thought_is_free_and_the_answer_is_bound(engine: LlamaEngine) -> None:
    grammar = gbnf('root ::= "yes"')
    found = answer(engine, grammar, Sampling(temp=0), scope="after-thought",
                   forced="<|channel>thought\n", max_thought_tokens=12)  # fmt: skip
    assert found.text == "yes"
    assert len(found.thought) > 8
    (thought,) = engine.model.tokenize("<|channel>", control=True)
    never = Sampling(temp=0, logit_bias=(TokenBias(thought, -math.inf),))
    without = answer(engine, grammar, never, scope="after-thought")
    assert (without.thought, without.text) == ("", "yes")


def test_the_end_of_an_answer_within_a_thought_ends_the_thought(engine: LlamaEngine) -> None:
    """Else there would be no answer, which obeys nothing."""
    end = engine.model.end_tokens[0]
    found = answer(engine, gbnf('root ::= "yes"'),
                   Sampling(temp=0, logit_bias=(TokenBias(end, 100.0),)), scope="after-thought",
                   forced="<|channel>thought\n")  # fmt: skip
    assert (found.thought, found.text, found.finish_reason) == ("", "yes", "stop")


TOOL: Any = {
    "type": "function",
    "function": {
        "name": "find",
        "parameters": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 2, "maxLength": 5},
                "n": {"type": "integer", "minimum": 10, "maximum": 12},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1,
                         "maxItems": 2},
                "any": {},
            },
            "required": ["name", "n", "tags"],
        },
    },
}  # fmt: skip


PARAMETERS: Any = [
    {},
    None,
    {"type": "object"},
    {"type": "object", "properties": {}},
    {"type": "object", "properties": {"a": {}, "b": {"type": "what"}, "c": {"type": "array"}}},
    {"type": "object", "properties": {"a": {"type": ["string", "null"]}, "b": {"nullable": True,
     "type": "number"}}},
    {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/t"}]}},
     "$defs": {"t": {"type": "object", "properties": {"next": {"$ref": "#/$defs/t"}}}}},
    {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "https://x.example/s"},
     "c": {"$ref": "#/missing"}}},
    {"type": "object", "properties": {'odd "key"\n\\': {"const": "\x01"}}},
    {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(40)}},
    {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object",
     "properties": {"x": {"type": "number"}}, "required": ["x"]}}}},
    {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"properties": {"a": {"type": "array",
     "maxItems": 1}}}, {"type": "object", "additionalProperties": {"enum": ["\ud800"]}}]}}},
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": -(2**63)}, "b": {
     "type": "number", "minimum": 3, "maximum": 1, "multipleOf": 0}, "c": {"type": []}}},
]  # fmt: skip


@pytest.mark.slow_except("0")
@pytest.mark.parametrize("parameters", PARAMETERS, ids=range(len(PARAMETERS)))
def test_every_schema_of_a_tool_gives_a_grammar(engine: LlamaEngine, parameters: Any) -> None:
    tools: Any = [
        {"type": "function", "function": {"name": name, "parameters": parameters}}
        for name in ("f", "g.h-i")
    ]
    assert engine.masks.find_fault(make_call_grammar(tools)) == ""
    assert engine.masks.find_fault(make_grammar(None, tools)) == ""


@pytest.mark.parametrize("seed", range(4))
def test_a_call_follows_the_schema_of_its_tool(engine: LlamaEngine, seed: int) -> None:
    tool = copy.deepcopy(TOOL)
    del tool["function"]["parameters"]["properties"]["any"]  # its value may be of any length
    found = answer(engine, make_grammar(None, [tool], several=False), Sampling(**HOT, seed=seed),
                   limit=400, max_calls=1, raw=False)  # fmt: skip
    assert found.text == ""
    (call,) = found.tool_calls
    assert call.name == "find"
    assert 2 <= len(call.arguments["name"]) <= 5
    assert 10 <= call.arguments["n"] <= 12
    assert 1 <= len(call.arguments["tags"]) <= 2
    assert set(call.arguments["tags"]) <= {"a", "b"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_every_call_is_bound_and_the_text_around_it_is_free(engine: LlamaEngine, seed: int) -> None:
    """The answer is made to begin with a call: what follows its mark must be one."""
    engine.begin(Sampling(**HOT, seed=seed), make_call_grammar([TOOL]), "calls")
    prompt = engine.prompts.tokens_of(render([Message("user", "Find it.")], PromptStyle()))
    engine.evaluate(prompt)
    opening, closing = (engine.model.tokenize(mark, control=True)[0]
                        for mark in ("<|tool_call>", "<tool_call|>"))  # fmt: skip
    for _ in range(2):
        engine.sample()
        engine.advance(opening)  # forced
        pieces = []
        while (token := engine.sample()) != closing and len(pieces) < 300:
            pieces.append(engine.model.piece(token))
            engine.advance(token)
        engine.advance(closing)
        text = b"".join(pieces).decode()
        assert text.startswith("call:find{")
        assert (parse_call(text) is not None) is (token == closing)  # or it was cut off at 300


@pytest.mark.slow
@pytest.mark.parametrize(("bias", "called"), [(100.0, ["find"]), (-math.inf, [])])
def test_an_answer_may_be_a_call_or_obey_a_schema(
    engine: LlamaEngine, bias: float, called: list[str]
) -> None:
    tool = copy.deepcopy(TOOL)
    del tool["function"]["parameters"]["properties"]["any"]
    grammar = make_grammar(AnswerForm("json_schema", SCHEMA), [tool], several=False)
    (call,) = engine.model.tokenize("<|tool_call>", control=True)
    sampling = Sampling(temp=0, logit_bias=(TokenBias(call, bias),))
    found = answer(engine, grammar, sampling, max_calls=1)
    assert [call.name for call in found.tool_calls] == called
    if not called:
        jsonschema.validate(json.loads(found.text), json.loads(SCHEMA))


@pytest.mark.slow
def test_on_the_command_line(
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(SCHEMA)
    args: list[Any] = ["chat", str(tiny), "-p", "What?", "-n", "200", "--temp", "0"]
    assert run([*args, "--json-schema", str(schema), "--think", "on"]) == 0
    written = capsys.readouterr().out
    assert set(json.loads(written[written.rindex("{") :])) == {"kind", "bits", "ok"}
    assert run([*args, "--schema", "bits int, ok bool"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"bits", "ok"}
    lark = tmp_path / "form.lark"
    lark.write_text('start: "Q" /[0-9]{2}/')
    assert run([*args, "--grammar", str(lark)]) == 0
    assert re.fullmatch("Q[0-9]{2}\n", capsys.readouterr().out)
    assert run([*args, "--regex", "yes|no"]) == 0
    assert capsys.readouterr().out in ("yes\n", "no\n")
    monkeypatch.setattr("sys.stdin", io.StringIO(SCHEMA))
    assert run([*args, "--json-schema", "-"]) == 0
    jsonschema.validate(json.loads(capsys.readouterr().out), json.loads(SCHEMA))
    assert run([*args, "--json-schema", str(schema), "--grammar", str(schema)]) == 2
    assert "--json-schema and --grammar cannot be used together" in capsys.readouterr().err
    grammar = tmp_path / "bad.gbnf"
    grammar.write_text("root ::= foo")
    assert run([*args, "--grammar", str(grammar)]) == 2
    assert "has no rule 'foo' (line 1, column 10)" in capsys.readouterr().err
    assert run([*args, "--regex", "("]) == 2
    assert "the grammar cannot be used: " in capsys.readouterr().err


@pytest.mark.slow
def test_an_answer_that_is_cut_off_within_its_form_is_no_success(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args: list[Any] = ["chat", str(tiny), "-p", "What?", "-n", "3"]
    assert run([*args, "--schema", "name, age int"]) == 7
    said = capsys.readouterr().err
    assert "the answer was cut off after 3 tokens" in said
    assert "(a larger --max-tokens lets it end)" in said
    assert run([*args, "--schema", "name, age int", "--json"]) == 7
    assert json.loads(capsys.readouterr().out)["finish_reason"] == "length"
    assert run(args) == 0  # an answer without a form is one, however long
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"id": "a", "prompt": "What?"}))
    batch = ["chat", str(tiny), "--prompts", str(tmp_path / "prompts.jsonl"), "-n", "3",
             "--output", str(tmp_path / "out.jsonl"), "--regex", "[a-z]{400}"]  # fmt: skip
    assert run(batch) == 0
    assert "1 of 1 answer was cut off" in capsys.readouterr().err


@pytest.mark.slow
def test_a_loop_that_the_grammar_forces_is_not_the_files_fault(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grammar = tmp_path / "forced.gbnf"
    grammar.write_text('root ::= "ab "{900}')
    assert run(["chat", str(tiny), "-p", "x", "--grammar", str(grammar), "-n", "800"]) == 9
    said = capsys.readouterr().err
    assert "the grammar may allow nothing else" in said
    assert "damaged" not in said
