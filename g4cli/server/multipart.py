"""Read the parts of a multipart/form-data body (RFC 7578), which is in memory already."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from typing import Final

from g4cli.core.errors import BadField

# Choices: a transcription has about ten fields, all of them short but the file.
MAX_PARTS: Final = 32
MAX_VALUE_BYTES: Final = 64 * 1024
_MAX_HEADER_BYTES: Final = 8 * 1024  # of one part
_MAX_BOUNDARY: Final = 70  # RFC 2046, 5.1.1


@dataclass(frozen=True, slots=True)
class FormPart:
    """A field of a form: its value, or the content of a file. `data` is a view of the body."""

    name: str
    data: memoryview


def parse_multipart(body: bytes, content_type: str) -> list[FormPart]:
    """Return the parts of `body` in order.

    Raises BadField: with the name of the part at fault if it has one, otherwise with "file".
    """
    delimiter = b"--" + _find_boundary(content_type)
    parts: list[FormPart] = []
    view = memoryview(body)
    # `start` is always where a delimiter begins. Text before the first one is skipped (RFC 2046).
    start = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if start == 1:  # not found
        raise BadField("file", "the body has no part: its boundary is missing")
    while not body.startswith(b"--", start + len(delimiter)):  # which marks the last delimiter
        if len(parts) == MAX_PARTS:
            raise BadField("file", f"the form has more than {MAX_PARTS} parts")
        headers_start = body.find(b"\r\n", start + len(delimiter)) + 2
        # From the line break before them on: a part may have no header.
        headers_end = body.find(b"\r\n\r\n", headers_start - 2, headers_start + _MAX_HEADER_BYTES)
        end = body.find(b"\r\n" + delimiter, max(headers_end, 0))
        if headers_start == 1 or headers_end < 0 or end < 0:
            raise BadField("file", "the form is damaged: a part does not end")
        header = body[headers_start:headers_end].decode("utf-8", "replace")
        # `min`: without content, the empty line may end with the line break before the delimiter.
        parts.append(_make_part(header, view[min(headers_end + 4, end) : end]))
        start = end + 2
    return parts


def _find_boundary(content_type: str) -> bytes:
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary("")
    if message.get_content_type() != "multipart/form-data" or not boundary:
        raise BadField("file", "the body has to be a form: multipart/form-data")
    if len(boundary) > _MAX_BOUNDARY:
        raise BadField("file", f"the boundary has more than {_MAX_BOUNDARY} characters")
    return boundary.encode("latin-1", "replace")


def _make_part(header: str, data: memoryview) -> FormPart:
    message = Message()
    for line in header.split("\r\n"):
        name, colon, value = line.partition(":")
        if colon and name.lower() in ("content-disposition", "content-transfer-encoding"):
            message[name] = value.strip()
    given = message.get_param("name", "", "Content-Disposition")
    name = given if isinstance(given, str) else given[2]  # RFC 2231: (charset, language, value)
    if not name:
        raise BadField("file", "a part of the form has no name")
    if message.get("Content-Transfer-Encoding", "binary").lower() not in ("binary", "8bit", "7bit"):
        raise BadField(name[:64], "Content-Transfer-Encoding is not supported")
    is_value = message.get_param("filename", None, "Content-Disposition") is None
    if is_value and len(data) > MAX_VALUE_BYTES:
        raise BadField(name[:64], f"it has {len(data):,} bytes; at most {MAX_VALUE_BYTES:,}")
    return FormPart(name, data)
