"""/v1/completions by OpenAI's client; /completion, /tokenize, /detokenize and /apply-template."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI

from tests.support.run.server import RunningServer

QUESTION = "What is Q4_0?"
PROMPT = f"<bos><|turn>user\n{QUESTION}<turn|>\n<|turn>model\n"


def post(server: RunningServer, path: str, **body: Any) -> Any:
    """Return the JSON that answers a body at `path`."""
    answer = httpx.post(f"{server.url}{path}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(server: RunningServer, path: str, **body: Any) -> str:
    """Return the message that refuses a body at `path`."""
    answer = httpx.post(f"{server.url}{path}", json=body, timeout=60)
    assert answer.status_code == 400, answer.text
    message: str = answer.json()["error"]["message"]
    return message


@pytest.mark.slow
def test_text_and_tokens_are_the_same_prompt(openai: OpenAI, server: RunningServer) -> None:
    whole = openai.completions.create(model="tiny", prompt=PROMPT)
    (choice,) = whole.choices
    assert (whole.object, whole.usage.completion_tokens) == ("text_completion", 16)
    assert (choice.finish_reason, whole.model) == ("length", "tiny")
    tokens = post(server, "/tokenize", content=PROMPT, add_special=True)["tokens"]
    by_ids = openai.completions.create(model="tiny", prompt=tokens)
    assert by_ids.choices[0].text == choice.text
    assert by_ids.usage.prompt_tokens == whole.usage.prompt_tokens == len(tokens)


def test_a_stream_says_the_same(openai: OpenAI) -> None:
    whole = openai.completions.create(model="tiny", prompt=PROMPT, echo=True)
    assert whole.choices[0].text.startswith(PROMPT)
    options: Any = {"include_usage": True}
    *chunks, last = openai.completions.create(
        model="tiny", prompt=PROMPT, echo=True, stream=True, stream_options=options
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length"
    assert last.usage.completion_tokens == 16


@pytest.mark.parametrize("stream", [False, True])
def test_several_prompts_and_choices(openai: OpenAI, stream: bool) -> None:
    asked: Any = {"model": "tiny", "prompt": ["One", "Two"], "n": 2, "max_tokens": 4}
    if stream:
        chunks = list(openai.completions.create(**asked, stream=True))
        assert {chunk.choices[0].index for chunk in chunks} == {0, 1, 2, 3}
    else:
        whole = openai.completions.create(**asked)
        assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
        assert whole.choices[0].text == whole.choices[1].text  # greedy
        assert whole.usage.completion_tokens == 16


def test_log_probabilities(openai: OpenAI) -> None:
    whole = openai.completions.create(model="tiny", prompt=PROMPT, max_tokens=3, logprobs=2)
    told = whole.choices[0].logprobs
    assert "".join(told.tokens) == whole.choices[0].text
    assert [len(top) for top in told.top_logprobs] == [2, 2, 2]
    assert all(value <= 0 for value in told.token_logprobs)
    assert told.text_offset[0] == 0


@pytest.mark.slow
def test_what_cannot_be_obeyed_is_refused(openai: OpenAI) -> None:
    for fields, message in (
        ({"best_of": 3}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"echo": True, "logprobs": 1}, "echo: the tokens of a prompt have no probabilities"),
        ({"prompt": [10**6]}, "a token id is outside"),
        ({"extra_body": {"n_predict": 0}}, "n_predict"),
        ({"extra_body": {"lora": []}}, "lora: this field is unknown to g4"),
    ):
        asked: Any = {"model": "tiny", "prompt": PROMPT, **fields}
        with pytest.raises(BadRequestError, match=message):
            openai.completions.create(**asked)


@pytest.mark.slow
def test_llama_servers_completion(server: RunningServer, openai: OpenAI) -> None:
    whole = post(server, "/completion", prompt=PROMPT, n_predict=16, return_tokens=True, n_probs=2)
    assert (
        whole["content"] == openai.completions.create(model="tiny", prompt=PROMPT).choices[0].text
    )
    assert (whole["stop"], whole["stop_type"], whole["tokens_predicted"]) == (True, "limit", 16)
    assert post(server, "/detokenize", tokens=whole["tokens"])["content"] == whole["content"]
    assert len(whole["completion_probabilities"][0]["top_logprobs"]) == 2
    word = whole["content"][3:6]
    stopped = post(server, "/completion", prompt=PROMPT, n_predict=16, stop=[word])
    assert (stopped["stop_type"], stopped["stopping_word"]) == ("word", word)
    body = {"prompt": PROMPT, "n_predict": 16, "stream": True}
    with httpx.stream("POST", f"{server.url}/completion", json=body, timeout=60) as answer:
        pieces = [json.loads(line[6:]) for line in answer.iter_lines() if line]
    assert "".join(piece["content"] for piece in pieces) == whole["content"]
    assert [piece["stop"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert post(server, "/completion", prompt="x", n_predict=4, json_schema={})["content"][0] == "{"
    assert "mirostat" in refusal(server, "/completion", prompt=PROMPT, mirostat=2)


@pytest.mark.slow
def test_tokens_there_and_back(server: RunningServer) -> None:
    plain = post(server, "/tokenize", content="Zoë says <turn|>")["tokens"]
    assert post(server, "/detokenize", tokens=plain)["content"] == "Zoë says <turn|>"
    spelled = post(server, "/tokenize", content="Zoë says <turn|>", parse_special=False)["tokens"]
    assert len(spelled) > len(plain)
    with_bos = post(server, "/tokenize", content="Zoë says <turn|>", add_special=True)["tokens"]
    assert with_bos[1:] == plain
    assert "with_pieces" in refusal(server, "/tokenize", content="x", with_pieces=True)
    assert "outside of the 768" in refusal(server, "/detokenize", tokens=[10**8])


@pytest.mark.slow
def test_the_template_gives_the_prompt_of_a_chat(server: RunningServer, openai: OpenAI) -> None:
    messages: Any = [{"role": "system", "content": "Short."}, {"role": "user", "content": QUESTION}]
    prompt = post(server, "/apply-template", messages=messages)["prompt"]
    assert prompt.startswith("<|turn>system\nShort.<turn|>\n<|turn>user\n")
    chat = openai.chat.completions.create(model="tiny", messages=messages, max_tokens=8)
    raw = openai.completions.create(model="tiny", prompt=prompt, max_tokens=8)
    assert raw.usage.prompt_tokens == chat.usage.prompt_tokens
    assert raw.choices[0].text == chat.choices[0].message.content


def test_thoughts_stay_in_the_prompt_while_tools_are_called(server: RunningServer) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    loop = [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "reasoning_content": "I look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "here"},
    ]
    begun = {"role": "assistant", "reasoning_content": "So.", "content": "It"}

    def render(*messages: Any) -> str:
        answer = httpx.post(f"{server.url}/apply-template", json={"messages": messages}, timeout=60)
        return str(answer.json()["prompt"])

    assert "<|turn>model\n<|channel>thought\nI look.\n<channel|><|tool_call>" in render(*loop)
    assert render(*loop, begun).endswith("<|channel>thought\nSo.\n<channel|>It")
    later = render(*loop, {"role": "assistant", "content": "Here."}, loop[0])
    assert "I look." not in later
