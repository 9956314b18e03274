"""No byte of a token is lost, whatever the vocabulary."""

from __future__ import annotations

from g4cli.runtime.engine.text_decoder import TextDecoder


def test_a_character_appears_with_its_last_byte() -> None:
    decoder = TextDecoder()
    assert [decoder.feed(bytes([b])) for b in "é日🎈".encode()] == [
        "",
        "é",
        "",
        "",
        "日",
        "",
        "",
        "",
        "🎈",
    ]


def test_invalid_bytes_are_shown() -> None:
    decoder = TextDecoder()
    assert decoder.feed(b"a\xffb") == "a�b"


def test_flush_gives_what_is_left_and_starts_afresh() -> None:
    decoder = TextDecoder()
    assert decoder.feed("日".encode()[:2]) == ""
    assert decoder.flush() == "�"
    assert decoder.flush() == ""
    assert decoder.feed(b"ok") == "ok"
