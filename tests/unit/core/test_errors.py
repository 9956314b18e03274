"""The error tree: exit codes, references and the drawing that documents them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from g4cli.core import errors
from g4cli.core.errors import BadGGUF, FileMissing, G4Error

TREE = [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, G4Error)]
# The codes that scripts rely on.
CODES = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130}


def test_every_error_has_its_own_reference_and_a_known_code() -> None:
    references = [e.reference for e in TREE]
    assert len(set(references)) == len(references)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", r) for r in references)
    assert {e.exit_code for e in TREE} <= CODES
    assert {e.exit_code for e in TREE} | {0} == CODES == {code for code, _ in errors.EXIT_CODES}


def test_the_drawing_shows_the_tree_as_it_is() -> None:
    drawn = re.findall(
        r"^ *(?:\|\s+)?(?:\+- )?([A-Z]\w+)", inspect.getdoc(errors) or "", re.MULTILINE
    )
    classes = [name for name in drawn if hasattr(errors, name)]
    assert sorted(classes) == sorted(e.__name__ for e in TREE)
    order = [name for name, item in vars(errors).items() if inspect.isclass(item) and item in TREE]
    assert classes == order


def test_children_keep_the_exit_code_of_their_family() -> None:
    for error in TREE:
        parent = error.__mro__[1]
        if parent not in (Exception, G4Error):
            assert error.exit_code == parent.exit_code


def test_a_bad_gguf_names_its_place() -> None:
    err = BadGGUF(Path("a.gguf"), "twice", offset=24, field="general.name")
    assert err.message == "a.gguf: twice (byte 24, general.name)"
    assert (err.path, err.what, err.offset, err.field) == ("a.gguf", "twice", 24, "general.name")
    assert err.hint == "g4 doctor a.gguf"
    assert BadGGUF("a", "empty", hint="again").hint == "again"
    assert BadGGUF("a", "empty").message == "a: empty"


def test_a_missing_file_names_its_path() -> None:
    with pytest.raises(G4Error, match="no such file or directory: x/y") as caught:
        raise FileMissing("x/y", hint="ls x")
    assert isinstance(caught.value, FileMissing)
    assert (caught.value.path, caught.value.hint) == (Path("x/y"), "ls x")
