"""Requests that are refused before anything is read: what is said, and what to type instead."""

from __future__ import annotations

import pytest

from tests.support.run.command import g4


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("remove", "name the model to remove", "g4 remove MODEL"),
        ("doctor a.gguf Hello", "a prompt is only used with --loop", "g4 doctor FILE --loop"),
        ("doctor --loop", "--loop needs a file", "g4 doctor FILE --loop"),
        ("doctor a.gguf --loop --quick", "--loop cannot be used with --quick", "g4 doctor FILE"),
        ("doctor a.gguf --loop --budget 0", "--budget must be longer than 0", "--budget 10m"),
        ("doctor a.gguf --loop --budget=-5m", "--budget must be longer than 0", "--budget 10m"),
        ("doctor a.gguf --loop --budget soon", "not a duration: 'soon'", "1h30m"),
        ("serve tiny --keep-alive soon", "not a duration: 'soon'", "1h30m"),
        (f"serve tiny --parallel {'9' * 5000}", "not a number of requests", "--parallel auto"),
        ("show tiny --diff", "a comparison needs --diff and two models", "g4 show --diff"),
        ("show --diff tiny a --full", "--diff cannot be used with --full", "g4 show MODEL --full"),
        ("show --diff tiny a --tensors", "--diff cannot be used with --tensors", "g4 show MODEL"),
        ("fit --verify", "--verify needs a MODEL", "g4 fit MODEL --verify"),
        ("fit --no-mmap", "--no-mmap needs a MODEL", "g4 fit MODEL --no-mmap"),
        ("fit --mmproj a.gguf", "--mmproj needs a MODEL", "g4 fit MODEL --mmproj"),
        ("fit --matrix --ctx 8k", "--matrix cannot be used with --ctx", "g4 fit --matrix"),
        ("fit e2b --matrix", "--matrix cannot be used with a MODEL", "g4 fit --matrix"),
        ("fit --measure --worker-memory 8G", "--measure cannot be used with --worker-memory", ""),
        ("fit e2b --image-tokens 99999", "the token budget of an image is one of 70", "280"),
        ("chat tiny -p Hi --image-tokens 7", "the token budget of an image is one of 70", "280"),
        # llama.cpp takes this number for "another seed each time".
        ("chat tiny -p Hi --seed 4294967295", "Invalid value for '--seed'", "g4 chat --help"),
        ("serve tiny --seed 4294967296", "Invalid value for '--seed'", "g4 serve --help"),
        ("rm --bogus", "No such option: --bogus", "g4 remove --help"),
        ("chats rm --bogus", "No such option: --bogus", "g4 chats delete --help"),
    ],
)
def test_a_request_that_makes_no_sense(
    capsys: pytest.CaptureFixture[str], words: str, message: str, hint: str
) -> None:
    code, out, err = g4(capsys, *words.split())
    assert (code, out) == (2, "")
    assert f"error: {message}" in err
    assert hint in err.partition("\nhint: ")[2]


@pytest.mark.parametrize(
    "words", ["fit ~nobody-here/a.gguf", "show ~nobody-here/a.gguf", "pull ~nobody-here/a"]
)
def test_the_home_of_nobody(capsys: pytest.CaptureFixture[str], words: str) -> None:
    code, out, err = g4(capsys, *words.split())
    assert (code, out) == (3, "")
    assert "~nobody-here/a" in err
