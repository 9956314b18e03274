"""--fix restores metadata byte for byte, and --report contains nothing private."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from g4cli.core.errors import UsageError
from g4cli.core.visible import one_line
from g4cli.doctor.bug_report import remove_private_parts, write_bug_report
from g4cli.doctor.diagnose import judge_facts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.repair import Repair, repair_file
from g4cli.doctor.report import Finding, Report
from tests.support.builders.damage import KINDS
from tests.support.builders.tiny_file import build_tiny
from tests.support.run.command import g4


@pytest.fixture(scope="module")
def good() -> bytes:
    return build_tiny()


def repair_bytes(folder: Path, data: bytes) -> tuple[Report, Repair, Path]:
    source, target = folder / "broken.gguf", folder / "mended.gguf"
    source.write_bytes(data)
    report = judge_facts(gather_facts(source))
    return report, repair_file(report, source, target), target


@pytest.mark.slow_except("eos-107", "template-poison", "window-1024")
@pytest.mark.parametrize(
    "kind",
    ["control-normal", "bytes-normal", "rope-base-1e4", "rope-base-swa-1e6", "epsilon-1e-5",
     "softcap-0", "rope-table-ones", "eos-107", "bos-1", "space-prefix", "tokenizer-llama",
     "tokenizer-gpt2", "template-chatml", "template-gemma3", "template-poison",
     "template-escape", "architecture-gemma3", "layers-9", "width-512", "shared-kv-0",
     "window-1024", "pattern-all-sliding", "rope-dims"],
)  # fmt: skip
def test_what_metadata_can_mend_is_the_good_file_again(
    kind: str, good: bytes, tmp_path: Path
) -> None:
    _, done, target = repair_bytes(tmp_path, KINDS[kind](good))
    assert done.changes
    assert target.read_bytes() == good


@pytest.mark.slow_except("template-missing")
@pytest.mark.parametrize(
    "kind",
    ["window-missing", "head-width-missing", "ple-missing", "bos-missing", "rope-base-missing",
     "rope-scaled", "template-missing", "rope-table-missing"],
)  # fmt: skip
def test_what_was_missing_is_healthy_again(kind: str, good: bytes, tmp_path: Path) -> None:
    report, done, target = repair_bytes(tmp_path, KINDS[kind](good))
    assert report.verdict != "healthy"
    assert done.changes
    assert judge_facts(gather_facts(target)).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["truncate", "zero-hole", "random-page", "v-missing", "merges-one"]
)
def test_what_no_metadata_mends_is_left_alone(kind: str, good: bytes, tmp_path: Path) -> None:
    _, done, target = repair_bytes(tmp_path, KINDS[kind](good))
    assert done.changes == ()
    assert not target.exists()


@pytest.mark.slow
def test_the_missing_bytes_are_named_exactly(good: bytes, tmp_path: Path) -> None:
    cut = KINDS["truncate"](good)
    _, done, _ = repair_bytes(tmp_path, cut)
    assert done.ranges == ((len(cut), len(good) - 1),)


@pytest.mark.slow
def test_a_damaged_tensor_is_named_as_a_range(good: bytes, tmp_path: Path) -> None:
    broken = KINDS["zero-hole"](good)
    _, done, _ = repair_bytes(tmp_path, broken)
    ((first, last),) = done.ranges
    assert broken[:first] + good[first : last + 1] + broken[last + 1 :] == good


@pytest.mark.slow
def test_the_copy_needs_another_name(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(KINDS["eos-107"](good))
    with pytest.raises(UsageError, match="the name of a new file"):
        repair_file(judge_facts(gather_facts(path)), path, path)


@pytest.mark.slow
def test_a_bug_report_holds_no_private_path(good: bytes, tmp_path: Path) -> None:
    report, _, _ = repair_bytes(tmp_path, KINDS["eos-107"](good))
    text = write_bug_report(report)
    assert "tokenizer.ids" in text
    assert "broken.gguf" in text
    assert str(tmp_path) not in text


def test_private_words_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    text = remove_private_parts(
        "/home/ada/models/x.gguf: see /home/ada/other/y.bin and C:\\Users\\ada\\z.gguf", "/nowhere"
    )
    assert "ada" not in text
    assert "x.gguf" in text
    assert "y.bin" in text


@pytest.mark.parametrize("how", ["relative", "absolute", "link", "home"])
def test_the_folders_of_the_file_are_taken_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    folder = tmp_path / "home of alice smith" / "ACME (secret) merger"
    folder.mkdir(parents=True)
    (folder / "m n.gguf").touch()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home of alice smith"))
    subject = {
        "relative": "m n.gguf",
        "absolute": str(folder / "m n.gguf"),
        "link": str(tmp_path / "link" / "m n.gguf"),
        "home": str(Path("~/ACME (secret) merger/m n.gguf").expanduser()),
    }[how]
    elsewhere = tmp_path / "home of alice smith" / "x.bin"
    said = (
        f"cannot open '{folder / 'm n.gguf'}' (in {folder}) beside {elsewhere}, "
        f"{tmp_path}/link/m n.gguf"
    )
    text = remove_private_parts(said, subject)
    assert text.startswith("cannot open 'm n.gguf' (in FOLDER) beside x.bin, ")
    for word in ("alice", "smith", "ACME", "secret", "merger", str(tmp_path)):
        assert word not in text
    assert remove_private_parts("n/a, 3/4 of 1,000", subject) == "n/a, 3/4 of 1,000"


@pytest.mark.parametrize(
    ("said", "subject", "expected"),
    [
        ("../acme/bid/mm.gguf is missing", "../acme/bid/x.gguf", "mm.gguf is missing"),
        ("no file 'acme/bid/mm.gguf'", "acme/bid/x.gguf", "no file 'mm.gguf'"),
        ("the models are in models/x.gguf", "models/x.gguf", "the models are in x.gguf"),
        ("cannot open /mnt/top secret/plan.txt", "x.gguf", "cannot open plan.txt"),
        ("/home/bob/a,b/c.gguf is bad", "x.gguf", "c.gguf is bad"),
        ("/home/Acme, Inc. (v1.0 old)/c.gguf is bad", "x.gguf", "c.gguf is bad"),
        ("/home/one two three four five six seven/c.gguf", "x.gguf", "c.gguf"),
        ("/a/c.gguf, /b/d.so.1 and 3/4 of /b/c/e", "x.gguf", "c.gguf, d.so.1 and 3/4 of e"),
        ("~/models/c.gguf and ~bob/models/d.gguf", "x.gguf", "c.gguf and d.gguf"),
        ("C:\\Users\\Jane Doe\\c.gguf or D:\\d.gguf", "x.gguf", "c.gguf or d.gguf"),
        ("D:\\d.gguf or \\\\server\\a share\\Jane\\c.gguf", "x.gguf", "d.gguf or c.gguf"),
        ("it ends with 'Answer:\\n'", "x.gguf", "it ends with 'Answer:\\n'"),
        ("/mnt/a/b.txt has 3/4 of it", "x.gguf", "b.txt has 3/4 of it"),
        ("Alice and ALICE", "x.gguf", "USER and USER"),
    ],
)
def test_folders_are_recognized_by_their_form(
    monkeypatch: pytest.MonkeyPatch, said: str, subject: str, expected: str
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    assert remove_private_parts(said, subject) == expected


def test_the_users_name_in_the_name_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    text = write_bug_report(Report("/x/alice-tune.gguf", "healthy", "high", "fine", (), "", ()))
    assert "`USER-tune.gguf`: `fine`." in text
    monkeypatch.setattr(getpass, "getuser", lambda: "llama")
    assert remove_private_parts("llama.cpp says", "x.gguf") == "llama.cpp says"


def test_a_report_after_the_current_folder_was_deleted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    report = Report("this machine", "healthy", "high", "all is well", (), "", ())
    assert "`this machine`: `all is well`." in write_bug_report(report)


NASTY = (
    "![x](http://evil/i.png) <img src=x> @torvalds #1 | \\| `` ` [a](b)\n"
    "# heading\n- item\u202e\x1b[2J",
    "`",
    "``` ~~~",
    "  ",
    "\\",
)


@pytest.mark.parametrize("text", NASTY)
def test_text_of_a_file_is_no_markdown_in_a_report(text: str) -> None:
    from markdown_it import MarkdownIt

    finding = Finding("fail", text, cause="conversion-defect", detail=(text, text), id="keys.x")
    report = Report("m.gguf", "conversion-defect", "high", f"is {text}", (), "", (finding,))
    tokens = MarkdownIt("commonmark").enable("table").parse(write_bug_report(report))
    kinds = {t.type for t in tokens} | {c.type for t in tokens for c in t.children or ()}
    assert not kinds & {"image", "link_open", "html_inline", "html_block", "fence", "table_open"}
    assert [t.type for t in tokens].count("heading_open") == 1
    words = " ".join(c.content for t in tokens for c in t.children or () if c.type == "text")
    assert not set(words) & set("@<[!|`")
    codes = [c.content for t in tokens for c in t.children or () if c.type == "code_inline"]
    assert codes[1].strip() == f"is {one_line(text)}".strip()
    assert codes[2].strip() == one_line(text).strip()


@pytest.mark.slow
def test_a_report_replaces_a_report_and_nothing_else(
    capsys: pytest.CaptureFixture[str], good: bytes, tmp_path: Path
) -> None:
    model, notes, report = (tmp_path / name for name in ("m.gguf", "notes.md", "report.md"))
    model.write_bytes(good)
    notes.write_text("my precious notes\n")
    code, _, err = g4(capsys, "doctor", model, "--quick", "--report", notes)
    assert (code, notes.read_text()) == (2, "my precious notes\n")
    assert "was not written by g4 doctor --report" in err
    for _ in range(2):
        code, _, err = g4(capsys, "doctor", model, "--quick", "--report", report)
        assert code == 0, err
    assert report.read_text().startswith("# g4 doctor: ")
