"""The parts of a comparison that need no model: prompts, models, judgements, figures, results."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from g4cli.core.errors import BadFile, RuntimeFailed, UsageError
from g4cli.operations.chat.plan import ChatPlan
from g4cli.operations.compare import quality
from g4cli.operations.compare.judge import ask_judge, read_verdict
from g4cli.operations.compare.judgement import (
    contains_answer,
    extract_block,
    find_word_loop,
    judge_answer,
)
from g4cli.operations.compare.quality import measure_model
from g4cli.operations.compare.request import make_request
from g4cli.operations.compare.results import ResultsFile, make_key
from g4cli.operations.compare.specs import parse_models
from g4cli.operations.compare.summary import Share, count_faults
from g4cli.operations.prompts import SETS, Prompt, make_single_prompt, read_prompts
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.measure.messages import RunBench, RunEvaluation
from g4cli.runtime.measure.reports import BenchReport, SpeedResult
from tests.support.builders.media_files import write
from tests.support.fakes.reporter import RecordingReporter

SEED = {"seed": "1"}
LOADING = ModelOptions(n_gpu_layers=0, use_extra_bufts=False)


@pytest.mark.parametrize(("name", "count"), [("pelican", 20), ("facts", 20), ("code", 12)])
def test_the_built_in_sets_can_be_read(name: str, count: int) -> None:
    assert len(read_prompts(name)) == count
    assert len(read_prompts(name, limit=3)) == 3


def test_the_expected_values_of_the_schema_set_match_their_schemas() -> None:
    for prompt in read_prompts("schema"):
        if prompt.expected is not None:
            judged = judge_answer(prompt, f"```json\n{json.dumps(prompt.expected)}\n```")
            assert (judged.valid, judged.correct) == (True, True), prompt.id


def test_a_prompt_survives_being_written_to_a_file_and_read_back(tmp_path: Path) -> None:
    for name in SETS:
        prompts = read_prompts(name)
        path = tmp_path / "p.jsonl"
        path.write_text("".join(json.dumps(prompt.as_json()) + "\n" for prompt in prompts))
        assert read_prompts(str(path)) == prompts


def test_a_line_of_prompts_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a\u2028\x85b"}\r\n{"prompt": "c"}', encoding="utf-8", newline="")
    assert [prompt.text for prompt in read_prompts(str(path))] == ["a\u2028\x85b", "c"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 1"),
        ("[]", "not a JSON object"),
        ('{"id": "a"}', "prompt must be a text"),
        ('{"prompt": "x", "kin": "svg"}', "unknown field 'kin'"),
        ('{"prompt": "x", "kind": "poem"}', "kind must be one of"),
        ('{"prompt": "x", "kind": "schema"}', "needs a schema"),
        ('{"prompt": "x", "schema": {"uniqueItems": true, "type": "array"}}', "uniqueItems"),
        ('{"prompt": "x", "image": 5}', "image must be a path"),
        ('{"prompt": "x", "id": ""}', "id must be"),
        ('{"prompt": "x", "expected": []}', "expected must not be empty"),
        ('{"prompt": "x", "expected": ["a", ""]}', "expected must not be empty"),
        ('{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}', "used twice"),
        ("[" * 100_000, "nested too deeply"),
        ("", "has no prompts"),
    ],
)
def test_a_wrong_file_of_prompts_is_refused_with_its_line(
    tmp_path: Path, line: str, words: str
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(line)
    with pytest.raises(BadFile, match=words):
        read_prompts(str(path))


def test_a_set_that_does_not_exist_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="neither a file nor a set"):
        read_prompts("pelicans")


def test_the_prompt_of_the_command_line_is_a_drawing_if_it_asks_for_svg() -> None:
    assert make_single_prompt("Generate an SVG of a cat").kind == "svg"
    assert make_single_prompt("What is GGUF?").kind == "text"


def test_settings_of_a_model_override_those_of_the_command_line() -> None:
    plain, own = parse_models(["e2b:q4_0", "e2b@temp=0,seed=7@kv-type=q8_0"], SEED | {"temp": "1"})
    assert (plain.name, dict(plain.settings)) == ("e2b:q4_0", {"seed": "1", "temp": "1"})
    assert (own.name, own.seed) == ("e2b", 7)
    request = own.make_request()
    assert (request.temp, request.kv_type) == (0.0, "q8_0")


def test_an_at_sign_without_an_option_belongs_to_the_name() -> None:
    (spec,) = parse_models(["hf:owner/repo:q4_0@main@temp=0"], SEED)
    assert (spec.name, spec.settings["temp"]) == ("hf:owner/repo:q4_0@main", "0")
    (spec,) = parse_models(["models@work=1,2/e2b.gguf"], SEED)
    assert spec.name == "models@work=1,2/e2b.gguf"


def test_an_endpoint_has_a_url_a_model_and_no_local_options() -> None:
    url = "openai:http://127.0.0.1:8080/v1#qwen/3@think=low,max-tokens=2k,parallel=4"
    (spec,) = parse_models([url], SEED | {"ctx": "8k", "temp": "0.5"})
    assert (spec.url, spec.name, spec.n_parallel) == ("http://127.0.0.1:8080/v1", "qwen/3", 4)
    assert spec.make_options(9) == {
        "temperature": 0.5,
        "reasoning_effort": "low",
        "max_tokens": 2048,
        "seed": 9,
    }


def test_a_key_comes_from_the_variable_that_is_named_or_known_for_its_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "for-openai")
    monkeypatch.setenv("GEMINI_API_KEY", "for-google")
    monkeypatch.setenv("MINE", "for-me")
    google = "https://generativelanguage.googleapis.com/v1beta/openai"
    urls = [
        "https://api.openai.com/v1#a",
        f"{google}#b",
        "https://h/v1#c",
        "https://h/v1#c@key=MINE",
    ]
    specs = parse_models([f"openai:{url}" for url in urls], SEED)
    assert [spec.read_key() for spec in specs] == ["for-openai", "for-google", "", "for-me"]
    assert "for-me" not in str(specs)
    assert "key" not in specs[3].identity
    with pytest.raises(UsageError, match="UNSET is not set"):
        parse_models(["openai:https://h/v1#m@key=UNSET"], SEED)
    with pytest.raises(UsageError, match="unencrypted"):
        parse_models(["openai:http://h/v1#m@key=MINE"], SEED)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("e2b@tmp=0", "unknown option 'tmp'"),
        ("e2b@temp=hot", "temp must be a number"),
        ("e2b@temp=-1", "temp must be a number"),
        (f"e2b@seed={(1 << 32) - 1000}", "seed must be a number from 0 to 4,294,966,295"),
        ("e2b@repeat-penalty=0", "repeat-penalty must be a number from 0.1 to 100"),
        (f"openai:http://127.0.0.1/v1#m@seed={(1 << 32) - 1000}", "seed must be a number"),
        ("e2b@kv-type=q3", "kv-type must be one of"),
        ("e2b@system=Be brief, please", "a value cannot hold a comma"),
        ("e2b@temp=0,hot", "a value cannot hold a comma"),
        ("e2b@ctx=much", "not a number of tokens"),
        ("e2b@mmap=maybe", "mmap must be one of"),
        ("openai:http://127.0.0.1/v1", "which model"),
        ("openai:http://127.0.0.1/v1#m@ctx=8k", "unknown option 'ctx'"),
        ("openai:nonsense#m", "not the URL"),
        ("@temp=0", "no name"),
    ],
)
def test_a_wrong_model_is_refused(model: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_models([model], SEED)


def test_a_setting_of_the_command_line_that_an_endpoint_does_not_take_is_refused() -> None:
    url = "openai:http://127.0.0.1/v1#m"
    with pytest.raises(UsageError, match="think must be one of low, medium, high, not 'on'"):
        parse_models([url], SEED | {"think": "on"})
    (spec,) = parse_models([f"{url}@think=high"], SEED | {"think": "on"})
    assert spec.make_options(1)["reasoning_effort"] == "high"


def test_a_model_that_is_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        parse_models(["e2b", "e2b"], SEED)


def ask(**changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "types": "", "prompts": "", "limit": 0, "samples": 1, "settings": SEED, "judge": "",
        "text": None, "command": "",
    }  # fmt: skip
    prompt, models = changes.pop("prompt", ""), changes.pop("models", [])
    return make_request(prompt, models, **(arguments | changes))


def test_types_are_those_of_the_model_in_place_of_the_prompt(tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("x")
    request = ask(prompt="e2b@temp=0", types="q8_0,Q4_0", text=text)
    assert [spec.label for spec in request.models] == ["e2b:q8_0@temp=0", "e2b:q4_0@temp=0"]
    assert request.prompts == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": ["e2b"]}, "no prompt to ask"),
        ({"prompt": "Hi"}, "name a model to ask"),
        ({"prompt": "Hi", "models": ["e2b"], "prompts": "facts"}, "cannot be used together"),
        ({"prompt": "Hi", "models": ["e2b"], "judge": "26b"}, "two models"),
        ({"prompt": "e2b:q4_0", "types": "q8_0"}, "without a type"),
        ({"models": ["e2b"], "types": "q8_0"}, "types of one model"),
        ({"prompt": "   ", "models": ["e2b"]}, "empty"),
        ({"prompt": "e2b", "types": "q8_0"}, "no prompt to ask"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ask(**changes)


@pytest.mark.parametrize(
    ("answer", "expected", "is_right"),
    [
        ("The capital is **Canberra**.", "canberra", True),
        ("It is not Canberras", "Canberra", False),
        ("100 °C", ["100"], True),
        ("1000", ["100"], False),
        ("about 100.5", ["100"], False),
        ("It is 100.", ["100"], True),
        ("1,100", ["100"], False),
        ("300,000 km/s", ["300,000", "300000"], True),
        ("Jane\n Austen", "Jane Austen", True),
        ("", "x", False),
        ("It is -5.", "5", False),
        ("−5", "5", False),
        ("It is -5.", "-5", True),
        ("10^5", "5", False),
        ("2*3", "23", False),
        ("2**3", "23", False),
        ("**23**", "23", True),
        ("- 5", "5", True),
        ("1969-07-20", "20", True),
        ("The answer is...Paris", "Paris", True),
    ],
)
def test_a_fact_is_found_as_a_whole_word(answer: str, expected: Any, is_right: bool) -> None:
    assert contains_answer(answer, expected) is is_right


def test_code_is_parsed_but_never_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    prompt = Prompt("p", "Write it.", "code", expected="def f(")
    code = f"def f():\n    pass\nopen({str(touched)!r}, 'w')"
    judged = judge_answer(prompt, f"Sure:\n```python\n{code}\n```\nDone.")
    assert (judged.valid, judged.correct) == (True, True)
    assert not touched.exists()
    assert judge_answer(prompt, "```\ndef f(:\n```").problem == "line 1: invalid syntax"
    assert judge_answer(prompt, "x = 1").problem == "it lacks def f("
    both = Prompt("p", "Write it.", "code", expected=["x", "def f("])
    assert judge_answer(both, "x = 1").problem == "it lacks def f("
    assert judge_answer(prompt, "(" * 100_000).valid is False
    assert judge_answer(prompt, "a\0b").valid is False


def test_json_is_compared_with_its_schema_and_the_expected_value() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    prompt = Prompt("p", "n?", "schema", expected={"n": 1}, schema=schema)
    seen = [judge_answer(prompt, text) for text in ('{"n": 1}', '{"n": 2}', '{"n": "1"}', "one")]
    assert [(j.valid, j.correct) for j in seen] == [
        (True, True), (True, False), (False, False), (False, False),
    ]  # fmt: skip
    assert seen[2].problem.startswith("at n:")
    assert judge_answer(prompt, "[" * 100_000).valid is False
    one = Prompt("p", "n?", "schema", expected=[{"n": 1}])
    seen = [judge_answer(one, text) for text in ('[{"n": 1.0}]', '[{"n": true}]')]
    assert [(j.valid, j.correct) for j in seen] == [(True, True), (True, False)]


def test_a_reference_to_another_place_in_a_schema_is_not_followed() -> None:
    for ref in ("http://127.0.0.1:1/x.json", "file:///etc/passwd"):
        judged = judge_answer(Prompt("p", "?", "schema", schema={"$ref": ref}), "{}")
        assert judged.valid is False
        assert "cannot be used" in judged.problem


def test_the_longest_code_block_is_the_answer() -> None:
    assert extract_block("a ```x``` b\n```json\n{}\n```\n```\n[1, 2]\n```") == "[1, 2]"
    assert extract_block(" plain ") == "plain"
    assert extract_block('So:\r\n```js title="x"\r\nx\r\n```\r\nThat is all.') == "x"
    answer = "1. Do:\n   ```python\n   x = 1\n   ```\n2. Done."
    assert judge_answer(Prompt("p", "?", "code"), answer).valid is True


def test_what_is_no_json_or_too_long_is_invalid() -> None:
    schema = {"type": "object"}
    judged = judge_answer(Prompt("p", "?", "schema", schema=schema), '{"n": NaN}')
    assert (judged.valid, judged.problem) == (False, "it is not JSON")
    judged = judge_answer(Prompt("p", "?", "code"), f"x = '''{'a' * 200_100}'''")
    assert (judged.valid, judged.problem) == (False, "it is longer than 200,000 characters")


def test_a_loop_is_found_in_words() -> None:
    loop = find_word_loop("Intro. " + "round and round it goes, " * 100)
    assert loop is not None
    assert loop["kind"] == "exact"
    assert find_word_loop("A sentence that does not repeat itself.") is None
    assert find_word_loop(f"A ruler:\n{'-' * 300}\nand the end of it.") is None


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [("1", "1"), ("**2**", "2"), ("Answer 1 is better.", "1"), ("Tie", "tie"), ("1 or 2", ""),
     ("12", ""), ("", ""), ("two", "2")],
)  # fmt: skip
def test_a_verdict_is_read_only_if_it_is_clear(reply: str, verdict: str) -> None:
    assert read_verdict(reply) == verdict


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    # R: prop.test(count, total, correct = FALSE)$conf.int
    [
        (0, 10, 0.0, 0.27753),
        (10, 10, 0.72247, 1.0),
        (7, 20, 0.18119, 0.56715),
        (50, 100, 0.40383, 0.59617),
    ],
)
def test_the_interval_of_a_share_is_wilsons(
    count: int, total: int, low: float, high: float
) -> None:
    assert Share(count, total).bounds == pytest.approx((low, high), abs=1e-5)


def test_faults_are_counted_once_for_each_drawing() -> None:
    def finding(rule: str, *, repaired: bool) -> dict[str, Any]:
        return {"rule": rule, "kind": "xml", "repaired": repaired}

    drawings = [
        [finding("not-closed", repaired=True), finding("not-closed", repaired=False)],
        [finding("not-closed", repaired=True), finding("text-around", repaired=True)],
        [finding("bad-path", repaired=False), finding("no-drawing", repaired=False)],
    ]
    counted = count_faults([{"drawing": {"findings": findings}} for findings in drawings])
    assert [(f.rule, f.drawings, f.repaired) for f in counted] == [
        ("not-closed", 2, 1),
        ("bad-path", 1, 0),
    ]


def test_results_are_appended_and_the_last_of_a_key_counts(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    results = ResultsFile(path)
    results.add("answer", "a", {"text": "one"})
    results.add("answer", "a", {"text": "two"})
    results.add("model", "a", {"bytes": 1})
    again = ResultsFile(path)
    found = again.find("answer", "a")
    assert found is not None
    assert found["text"] == "two"
    assert again.find("answer", "b") is None
    assert path.read_text().count("\n") == 3


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    ResultsFile(path).add("answer", "a", {"text": "one"})
    with path.open("a") as file:
        file.write('{"type": "answer", "key": "b", "te')
    results = ResultsFile(path)
    results.add("answer", "c", {"text": "three"})
    again = ResultsFile(path)
    assert again.find("answer", "a")
    assert again.find("answer", "c")
    assert again.find("answer", "b") is None


@pytest.mark.parametrize("begun", ['{"ty', '{"type": "model", "key": "12'])
def test_a_file_whose_only_line_was_cut_off_is_empty(begun: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(begun)
    ResultsFile(path).add("answer", "a", {"text": "one"})
    assert ResultsFile(path).find("answer", "a")


@pytest.mark.parametrize("text", ['{"type": "note"}', "{}", "types", '{"id": "1", "ty'])
def test_a_file_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    with pytest.raises(BadFile, match="does not hold results"):
        ResultsFile(path)


def test_an_opinion_is_about_the_models_as_they_are_called_now(tmp_path: Path) -> None:
    results, (judge,) = ResultsFile(tmp_path / "r.jsonl"), parse_models(["tiny"], SEED)
    prompt = make_single_prompt("Say yes.")

    def read_opinions(*labels: str) -> list[Any]:
        answers = {label: {("prompt", 0): {"key": label[0]}} for label in labels}
        said = ask_judge(judge, "id", [prompt], answers, results, RecordingReporter())
        return [(row["a"], row["b"], row["first"], row["second"], row["winner"]) for row in said]

    key = make_key(make_key("id", judge.identity), "a", "b")
    row = {"prompt": "x", "a": "a", "b": "b", "first": "b", "second": "b", "winner": "b"}
    results.add("opinion", key, row)
    assert read_opinions("a", "b") == [("a", "b", "b", "b", "b")]
    assert read_opinions("a:q8_0", "b:q8_0") == [("a:q8_0", "b:q8_0", *["b:q8_0"] * 3)]
    results.add("opinion", key, row | {"second": "", "winner": "tie"})
    assert read_opinions("a2", "b2") == [("a2", "b2", "b2", "", "tie")]
    # With the models in the other order, the answer of "b" was shown first in the second question.
    assert read_opinions("b2", "a2") == [("b2", "a2", "", "b2", "tie")]
    results.add("opinion", key, row)
    assert read_opinions("b3", "a3") == [("b3", "a3", "b3", "b3", "b3")]


def test_a_text_is_evaluated_with_the_model_loaded_as_it_was_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RunEvaluation] = []

    def measure(request: RunEvaluation, _progress: Any) -> None:
        asked.append(request)
        raise RuntimeFailed("seen enough")

    model = SimpleNamespace(path=tmp_path / "m.gguf", use_extra_bufts=False)
    monkeypatch.setattr(quality, "identify_model", lambda *_: "id")
    monkeypatch.setattr(quality, "prepare_model", lambda *_, **__: model)
    monkeypatch.setattr(quality, "plan_chat", lambda *_, **__: ChatPlan(512, LOADING))
    monkeypatch.setattr(quality, "run_measurement", measure)
    (tmp_path / "text.txt").write_text("A text that is long enough to be evaluated.\n")
    (spec,) = parse_models(["tiny"], SEED)
    results = ResultsFile(tmp_path / "r.jsonl")
    with pytest.raises(RuntimeFailed, match="seen enough"):
        measure_model(spec, tmp_path / "text.txt", 0, results, RecordingReporter())
    assert (asked[0].model.n_gpu_layers, asked[0].model.use_extra_bufts) == (0, False)


def test_a_model_is_measured_with_each_of_its_settings_of_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benches: list[RunBench] = []

    def measure(request: Any, _progress: Any) -> Any:
        if not isinstance(request, RunBench):
            return evaluation
        benches.append(request)
        tests = tuple(SpeedResult(name, 1, (1.0,)) for name in ("pp128", "tg32"))
        return BenchReport("", 1, 1, 1, 1.0, tests, 1)

    def prepare(_name: str, _reporter: Any, *, expand: str) -> SimpleNamespace:
        expanded.append(expand)
        return SimpleNamespace(path=write(tmp_path / "m.gguf", b"x"), use_extra_bufts=False)

    expanded: list[str] = []
    score = SimpleNamespace(n=1, perplexity=2.0, perplexity_error=0.1)
    evaluation = SimpleNamespace(n_documents=1, score=score)
    monkeypatch.setattr(quality, "identify_model", lambda *_: "id")
    monkeypatch.setattr(quality, "prepare_model", prepare)
    monkeypatch.setattr(quality, "plan_chat", lambda *_, **__: ChatPlan(512, LOADING))
    monkeypatch.setattr(quality, "run_measurement", measure)
    text = write(tmp_path / "text.txt", b"A text that is long enough to be evaluated.")
    results = ResultsFile(tmp_path / "r.jsonl")
    words = ["tiny", "tiny@temp=1", "tiny@threads=1", "tiny@threads=2", "tiny@expand=q8_0"]
    for spec in parse_models(words, SEED):
        measure_model(spec, text, 0, results, RecordingReporter())
    assert [request.options.n_threads for request in benches] == [0, 1, 2, 0]
    assert expanded == ["bf16", "bf16", "bf16", "q8_0"]


def test_a_file_of_something_else_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"my": "data"}\n')
    with pytest.raises(BadFile, match="does not hold results"):
        ResultsFile(path)
    assert path.read_text() == '{"my": "data"}\n'


def test_a_key_depends_on_values_alone() -> None:
    assert make_key({"a": 1, "b": 2}) == make_key({"b": 2, "a": 1})
    assert make_key("a", "b") != make_key("ab")
