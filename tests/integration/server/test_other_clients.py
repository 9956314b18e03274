"""The server as litellm and `llm` see it, with the model `tiny`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.run.server import RunningServer

pytestmark = pytest.mark.slow

# litellm takes seconds to import and sets up logging and clients of its own: it gets a process.
LITELLM = """
import json, sys, litellm
url = sys.argv[1]
litellm.telemetry, litellm.suppress_debug_info = False, True
ask = [{"role": "user", "content": "What is Q4_0?"}]
texts = []
for model, base in (
    ("openai/tiny", url + "/v1"), ("anthropic/tiny", url), ("ollama_chat/tiny", url)
):
    answer = litellm.completion(
        model=model, api_base=base, api_key="none", messages=ask, max_tokens=12, temperature=0
    )
    pieces = litellm.completion(
        model=model, api_base=base, api_key="none", messages=ask, max_tokens=12, temperature=0,
        stream=True,
    )
    texts.append(answer.choices[0].message.content)
    texts.append("".join(piece.choices[0].delta.content or "" for piece in pieces))
print(json.dumps(texts))
"""


def _run(*command: str, home: Path) -> str:
    environment = {
        **os.environ, "HOME": str(home), "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LLM_USER_PATH": str(home), "OPENAI_API_KEY": "none",
    }  # fmt: skip
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_litellm_hears_the_same_in_three_apis(server: RunningServer, tmp_path: Path) -> None:
    told = _run(sys.executable, "-c", LITELLM, server.url, home=tmp_path)
    texts = json.loads(told.strip().splitlines()[-1])
    assert len(texts) == 6
    assert texts[0]
    assert set(texts) == {texts[0]}


def test_llm_asks_and_gets_json(server: RunningServer, tmp_path: Path) -> None:
    entry = f"""
- model_id: g4
  model_name: tiny
  api_base: {server.openai_url}
  supports_schema: true
"""
    (tmp_path / "extra-openai-models.yaml").write_text(entry)
    asked = [sys.executable, "-m", "llm", "-m", "g4", "-o", "max_tokens", "64"]
    assert _run(*asked, "What is Q4_0?", home=tmp_path).strip()
    schema = '{"type": "object", "properties": {"a": {"enum": [7]}}, "required": ["a"]}'
    assert json.loads(_run(*asked, "--schema", schema, "Seven?", home=tmp_path)) == {"a": 7}
