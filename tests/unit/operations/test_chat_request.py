"""A chat request: it has the defaults of `g4 chat`, and its files are checked before loading."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path

import pytest

from g4cli.cli.commands.chat import chat
from g4cli.core.errors import FileMissing, UsageError
from g4cli.operations.chat.inputs import list_requested_media, read_inputs
from g4cli.operations.chat.request import ChatRequest


def test_the_defaults_are_those_of_the_command() -> None:
    options = {p.name: p.default for p in inspect.signature(chat).parameters.values()}
    # Fields whose name or default differs from that of the option.
    renamed = {"model", "conversation", "image", "audio", "json_schema_text"}
    renamed |= {"declarations", "json_schema_text", "stop", "n_probs", "workers"}
    for field in dataclasses.fields(ChatRequest):
        if field.name not in renamed:
            assert field.default == options[field.name], field.name
    assert options["no_loop_stop"] is False
    assert options["logprobs"] is ChatRequest(model="").n_probs is None
    assert (options["stop"] or ()) == ChatRequest(model="").stop


def test_sampling_holds_only_what_was_given() -> None:
    assert ChatRequest(model="tiny", temp=0.0, seed=1).sampling == {"temp": 0.0, "seed": 1}
    assert ChatRequest(model="tiny").sampling == {}


def test_the_files_of_options_are_read(tmp_path: Path) -> None:
    grammar, tools, schema = tmp_path / "g.gbnf", tmp_path / "t.json", tmp_path / "s.json"
    grammar.write_text('root ::= "x"')
    tools.write_text('[{"name": "clock"}]')
    schema.write_text('{"type": "string"}')
    inputs = read_inputs(ChatRequest(model="tiny", grammar=grammar, tools=tools))
    assert inputs.tools == ({"name": "clock"},)
    assert "marked_call" in str(inputs.grammar)
    assert inputs.has_form
    only_tools = read_inputs(ChatRequest(model="tiny", tools=tools))
    assert only_tools.grammar_scope == "calls"
    assert not only_tools.has_form
    assert read_inputs(ChatRequest(model="tiny", json_schema=schema)).has_form
    assert read_inputs(ChatRequest(model="tiny", schema="a, b int")).has_form
    assert read_inputs(ChatRequest(model="tiny", regex="a|b")).has_form
    assert read_inputs(ChatRequest(model="tiny")).grammar is None
    with pytest.raises(UsageError, match="cannot be used together"):
        read_inputs(ChatRequest(model="tiny", grammar=grammar, json_schema=schema))
    assert read_inputs(ChatRequest(model="tiny", grammar=grammar, think="on")).has_form


def test_a_grammar_in_larks_syntax_is_told_by_its_name(tmp_path: Path) -> None:
    lark = tmp_path / "g.lark"
    lark.write_text('start: "x"')
    found = read_inputs(ChatRequest(model="tiny", grammar=lark)).grammar
    assert json.loads(str(found))["grammars"][1]["lark_grammar"] == 'start: "x"'


@pytest.mark.parametrize("option", ["mmproj", "tools", "grammar", "json_schema"])
def test_a_missing_file_is_refused(tmp_path: Path, option: str) -> None:
    request = dataclasses.replace(ChatRequest(model="tiny"), **{option: tmp_path / "none"})
    with pytest.raises(FileMissing):
        read_inputs(request)


def test_media_have_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = ChatRequest(model="tiny", image=[Path("a.png")], audio=[Path("b.wav")])
    found = [(medium.kind, medium.path) for medium in list_requested_media(request)]
    assert found == [("image", tmp_path / "a.png"), ("audio", tmp_path / "b.wav")]
