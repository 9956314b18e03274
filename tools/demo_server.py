"""A step of `make demo`: start `g4 serve`, ask it by curl and by OpenAI's client, stop it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from openai import OpenAI

QUESTION = "What is Q4_0?"
LOAD_S = 60


def main() -> int:
    """Return 0 if both clients got an answer and the server ended as it should."""
    command = ["g4", "serve", "tiny", "--port", "0", "--json", "--temp", "0"]
    print("$ " + " ".join(command), flush=True)
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = _read_url(server)
        _wait_until_loaded(url)
        _ask_by_curl(url)
        _ask_by_openai(url)
    finally:
        server.send_signal(signal.SIGINT)
    return server.wait(20)


def _read_url(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    lines: list[str] = []
    while not lines or lines[-1] != "}\n":
        lines.append(server.stdout.readline())
        if not lines[-1]:
            raise SystemExit("the server did not start")
    url: str = json.loads("".join(lines))["url"]
    return url


def _wait_until_loaded(url: str) -> None:
    end = time.monotonic() + LOAD_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health"):
                return
        except urllib.error.HTTPError:  # 503: the model is being loaded
            if time.monotonic() > end:
                raise
        time.sleep(0.5)


def _ask_by_curl(url: str) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": QUESTION}]})
    print(f"$ curl {url}/v1/chat/completions -d '{body}'", flush=True)
    command = ["curl", "--silent", "--fail", f"{url}/v1/chat/completions", "-d", body]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(answer["choices"][0]["message"]["content"], answer["usage"], sep="\n", flush=True)


def _ask_by_openai(url: str) -> None:
    print(f'>>> OpenAI(base_url="{url}/v1").chat.completions.create(..., stream=True)')
    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    stream = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": QUESTION}], stream=True
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    sys.exit(main())
