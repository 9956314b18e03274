"""Forms with files: as real clients send them, and as hostile ones do."""

from __future__ import annotations

import httpx
import pytest

from g4cli.core.errors import BadField
from g4cli.server.multipart import MAX_PARTS, MAX_VALUE_BYTES, parse_multipart


def encode(data: dict[str, object], files: dict[str, object]) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://x", data=data, files=files)  # type: ignore[arg-type]
    return request.read(), request.headers["content-type"]


def test_a_form_as_httpx_sends_it() -> None:
    content = b"\r\n--\r\n\x00--x" * 9
    body, kind = encode({"model": "tiny", "i[]": ["a", "b"]}, {"file": ('a"b.wav', content)})
    parts = parse_multipart(body, kind)
    assert [(p.name, bytes(p.data)) for p in parts] == [
        ("model", b"tiny"),
        ("i[]", b"a"),
        ("i[]", b"b"),
        ("file", content),
    ]


def test_a_form_by_the_letter_of_the_standard() -> None:
    body = (
        b"a preamble\r\n--x y\r\n"
        b"content-disposition: form-data; name=file; filename*=UTF-8''%61\r\n"
        b'Content-Type: audio/wav\r\n\r\n\r\n--x y\r\nContent-Disposition: form-data; name="n"'
        b"\r\n\r\nvalue\r\n--x y--\r\nan epilogue"
    )
    parts = parse_multipart(body, 'Multipart/Form-Data; boundary="x y"')
    assert [(p.name, bytes(p.data)) for p in parts] == [
        ("file", b""),
        ("n", b"value"),
    ]


PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nv\r\n'


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"", "multipart/form-data", "has to be a form"),
        (b"{}", "application/json", "has to be a form"),
        (b"", "multipart/form-data; boundary=x", "no part"),
        (b"", "multipart/form-data; boundary=" + "x" * 71, "70 characters"),
        (PART, "multipart/form-data; boundary=x", "does not end"),
        (PART + b"--x", "multipart/form-data; boundary=x", "does not end"),
        (
            b"--x\r\nA: " + b"a" * 9000 + b"\r\n\r\nv\r\n--x--",
            "multipart/form-data; boundary=x",
            "end",
        ),
        (b"--x\r\nA: b\r\n\r\nv\r\n--x--", "multipart/form-data; boundary=x", "no name"),
        (PART * (MAX_PARTS + 1) + b"--x--", "multipart/form-data; boundary=x", "32 parts"),
        (
            PART.replace(b"v", b"v" * (MAX_VALUE_BYTES + 1)) + b"--x--",
            "multipart/form-data; boundary=x",
            "at most 65,536",
        ),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, kind: str, said: str) -> None:
    with pytest.raises(BadField, match=said):
        parse_multipart(body, kind)
