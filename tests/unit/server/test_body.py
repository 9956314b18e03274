"""Large bodies: read in a thread, as Python's own JSON reader reads them, and refused by name."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from httpx import ASGITransport, AsyncClient, Response

from g4cli.core.errors import BadField
from g4cli.operations.serving.media_files import MediaFiles
from g4cli.server.app import make_api
from g4cli.server.body import parse_json_body, read_body
from g4cli.server.errors import explain_error
from g4cli.server.limits import MAX_COMMAS
from g4cli.server.llama_server import DetokenizeBody
from g4cli.server.media_data import store_base64
from g4cli.server.openai_request import ChatBody

LONG = 1 << 20


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -2.5e3, True, None, {"b": '\u00e9\n"\\'}], "": []},
        "x" * (3 * LONG) + '"' + "y" * LONG,
        ["x" * (LONG - 1) + "\\" * 9 + "\U0001f600" * LONG, "z"],
    ],
    ids=["all kinds", "a quotation mark", "escapes at the end of a piece"],
)
def test_json_is_read_as_by_python(value: Any) -> None:
    for ascii_only in (False, True):
        text = json.dumps(value, ensure_ascii=ascii_only)
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            assert parse_json_body(text.encode(encoding)) == value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"messages": ', "the body is not valid JSON: Expecting value"),
        (b'{"messages": "' + b"x" * (2 * LONG) + b"\n", "Invalid control character"),
        (b'{"messages": "' + b"x" * (2 * LONG), "Unterminated string"),
        (b'{"model": "\xff"}', "the body is not valid JSON: it is not UTF-8"),
        (b"[" + b"1," * MAX_COMMAS + b"1,1]", "the body has 1,048,577 commas; at most 1,048,576"),
        (b'{"messages": []}', "messages: List should have at least 1 item"),
        (b'{"messages": [{"role": "user", "content": [1]}]}', "messages.0.content"),
    ],
    ids=["cut", "control character", "open string", "bytes", "commas", "empty", "field"],
)
def test_what_is_wrong_with_a_body_is_told(body: bytes, said: str) -> None:
    with pytest.raises(RequestValidationError) as raised:
        read_body(body, ChatBody)
    problem = explain_error(raised.value)
    assert problem.status == 400
    assert said in problem.message


@pytest.mark.slow
def test_other_requests_go_on_while_a_large_body_is_read() -> None:
    body = json.dumps({"tokens": [1] * 200_000}).encode()

    async def count_turns() -> int:
        reading = asyncio.create_task(asyncio.to_thread(read_body, body, DetokenizeBody))
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(count_turns()) > 10


class Detokenizer:
    async def detokenize(self, _: str, tokens: tuple[int, ...]) -> str:
        return f"{len(tokens)} tokens"


def post(path: str, content: bytes) -> Response:
    async def ask() -> Response:
        transport = ASGITransport(make_api(Detokenizer()))  # type: ignore[arg-type]
        async with AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            headers = {"Content-Type": "application/json; charset=utf-8"}
            return await client.post(path, content=content, headers=headers)

    return asyncio.run(ask())


@pytest.mark.slow
@pytest.mark.parametrize("n_tokens", [3, 100_000])
def test_small_and_large_bodies_are_answered_alike(n_tokens: int) -> None:
    answer = post("/detokenize", json.dumps({"tokens": [1] * n_tokens}).encode())
    assert answer.json() == {"content": f"{n_tokens} tokens"}
    wrong = post("/detokenize", json.dumps({"tokens": [1] * n_tokens, "x": 1}).encode())
    assert wrong.status_code == 400
    assert wrong.json()["error"]["message"] == "x: this field is unknown to g4"
    assert post("/detokenize", b"[" * max(n_tokens, 20_000)).status_code == 400


def test_base64_is_decoded_in_pieces_and_checked_as_a_whole() -> None:
    files = MediaFiles()
    data = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8192
    text = base64.b64encode(data).decode()
    assert store_base64(files, "image", text, "f").path.read_bytes() == data
    lines = base64.encodebytes(data).decode().replace("\n", "\r\n")
    assert store_base64(files, "image", lines, "f").path.read_bytes() == data
    for wrong in (text[:-5] + "*" + text[-4:], "iVBORw==" + text, text[:-1]):
        with pytest.raises(BadField, match="not valid base64"):
            store_base64(files, "image", wrong, "f")
    files.close()
