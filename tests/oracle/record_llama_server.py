"""Ask llama-server what g4 answers in its place, and record its answers.

    python tests/oracle/record_llama_server.py LLAMA_SERVER

starts LLAMA_SERVER with the bundled model and writes tests/golden/llama_server.json: the requests
below with its answers, and the names and types of its metrics. Texts and figures that depend on
the machine are left out: of /completion, /props and /slots only the fields with their types are
recorded. The server must be built from the sources of the pinned llama-cpp-python.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))
from tests.support.builders.tiny_file import build_tiny  # noqa: E402

TEXT = "Zo\u00eb says <|turn>: 1 + 2\u202f= 3\n\tin C\u266f, \U0001f600!"
ASK = [{"role": "user", "content": "What is GGUF?"}]
TALK = [
    {"role": "system", "content": "Be short."},
    *ASK,
    {"role": "assistant", "content": "A file format."},
    {"role": "user", "content": "Whose?"},
]
NO_THOUGHT = {"chat_template_kwargs": {"enable_thinking": False}}
EQUAL: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/tokenize", {"content": TEXT}),
    ("/tokenize", {"content": TEXT, "parse_special": False}),
    ("/tokenize", {"content": TEXT, "add_special": True}),
    ("/tokenize", {"content": ""}),
    ("/detokenize", {"tokens": list(range(4, 700, 7))}),
    ("/detokenize", {"tokens": []}),
    ("/apply-template", {"messages": ASK, **NO_THOUGHT}),
    ("/apply-template", {"messages": TALK, **NO_THOUGHT}),
    ("/apply-template", {"messages": TALK, "chat_template_kwargs": {"enable_thinking": True}}),
)
ALIKE: tuple[tuple[str, dict[str, Any] | None], ...] = (
    ("/completion", {"prompt": "GGUF is", "n_predict": 4, "temperature": 0}),
    ("/completion", {"prompt": [2, 300, 301], "n_predict": 4, "temperature": 0, "n_probs": 2}),
    ("/props", None),
    ("/slots", None),
    ("/health", None),
)


def describe_types(value: Any) -> Any:
    """Return `value` with each scalar replaced by the name of its JSON type, lists by one item."""
    if isinstance(value, dict):
        return {key: describe_types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [describe_types(item) for item in value[:1]]
    if isinstance(value, bool) or value is None:
        return "null" if value is None else "bool"
    return "number" if isinstance(value, int | float) else "string"


def ask(url: str, path: str, body: dict[str, Any] | None) -> Any:
    """Return the answer to a request; a GET if it has no body."""
    answer = httpx.get(url + path) if body is None else httpx.post(url + path, json=body)
    answer.raise_for_status()
    return answer.json()


def record(url: str) -> dict[str, Any]:
    """Return all that is recorded of the server at `url`."""
    metrics = httpx.get(f"{url}/metrics").text
    return {
        "equal": [{"path": p, "body": b, "answer": ask(url, p, b)} for p, b in EQUAL],
        "alike": [
            {"path": p, "body": b, "types": describe_types(ask(url, p, b))} for p, b in ALIKE
        ],
        "metrics": dict(re.findall(r"^# TYPE (\S+) (\S+)$", metrics, re.MULTILINE)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("llama_server", type=Path)
    args = parser.parse_args()
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        model = Path(folder, "tiny.gguf")
        model.write_bytes(build_tiny())
        command = [
            args.llama_server, "-m", model, "--port", str(port), "-np", "1", "-c", "1024",
            "--metrics", "--jinja", "-t", "1",
        ]  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            try:
                for _ in range(300):
                    try:
                        if httpx.get(f"{url}/health").status_code == 200:
                            break
                    except httpx.TransportError:
                        pass
                    time.sleep(0.2)
                found = record(url)
            finally:
                server.terminate()
    text = json.dumps(found, ensure_ascii=True, sort_keys=True)
    (TESTS / "golden/llama_server.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
