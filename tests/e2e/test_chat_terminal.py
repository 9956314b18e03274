"""A conversation in a real pseudo-terminal, as a user has it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from g4cli.cli.chat.repl import is_command, split_dropped_files
from g4cli.store.conversations.records import StoredConversation
from g4cli.store.conversations.store import ConversationStore
from tests.support.builders.gguf import F16, build_gguf
from tests.support.builders.media_files import picture, png, sound, wav, write
from tests.support.builders.tiny_file import build_tiny, tiny_parts
from tests.support.paths import TESTS
from tests.support.run.process import wait_until_gone
from tests.support.run.terminal import PATIENCE_S, Terminal

PROMPT = ">>>"
MMPROJ = TESTS / "golden/tiny_mmproj.gguf"
MAIN = "from g4cli.cli.main import main; main()"
# A grammar whose only sentence has no end: the answer runs until it is stopped.
ENDLESS = 'root ::= "drip "{1000000}'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "tiny.gguf").write_bytes(build_tiny())
    return folder


@pytest.fixture
def talk(home: Path) -> Callable[..., Terminal]:
    """Starts `g4 chat` on the bundled network; greedy, so that answers are known."""

    def start(*args: str, term: str = "xterm-256color", keeps_output: bool = False) -> Terminal:
        command = [
            sys.executable,
            "-c",
            MAIN,
            "chat",
            str(home / "tiny.gguf"),
            "--temp",
            "0",
            *args,
        ]
        env = {"G4_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "80", "TERM": term}
        terminal = Terminal(command, env, keeps_output=keeps_output)
        terminal.wait_for("ask something, or /help" if term != "dumb" else ">>>")
        return terminal

    return start


def test_a_conversation(talk: Callable[..., Terminal], tmp_path: Path) -> None:
    """Turns, undo, retry, edit, save, load, resume, settings, an error, and leaving."""
    saved = tmp_path / "chat.json"
    with talk() as t:
        t.enter("What is GGUF?")
        t.wait_for("file format of llama.cpp")
        t.wait_for(PROMPT, count=2)
        t.enter("What is Q4_0?")
        t.wait_for("4.5 bits per weight")
        t.wait_for(PROMPT, count=3)

        t.enter("/undo")
        t.wait_for("removed: What is Q4_0?")
        t.enter("/retry")
        t.wait_for("file format of llama.cpp", count=2)
        t.enter("/stats")
        t.wait_for("prompt 1 of 16 tokens at")

        t.enter("/nonsense")
        t.wait_for("error: no such command: /nonsense")
        t.wait_for("to ask it as a question: //nonsense")
        t.enter("/load /no/such/file")
        t.wait_for("error: no such file or directory: /no/such/file")
        t.enter("/system Be short.")
        t.wait_for("system: Be short.")
        t.enter("/think on")
        t.wait_for("thinking on; thoughts: show")
        t.enter("/think off")
        t.wait_for("thinking off")

        t.enter(f"/save {saved}")
        t.wait_for("saved 1 question and its answer")
        t.enter("/clear")
        t.wait_for("conversation cleared")
        t.enter("/stats")
        t.wait_for("no answer yet")
        t.enter("/fit")
        t.wait_for("KV cache  1.75 MiB (2,048 tokens)")
        t.enter("/quit")
        assert t.wait_end() == 0
    data = json.loads(saved.read_text())
    assert data["system"] == "Be short."
    assert [m["role"] for m in data["messages"]] == ["user", "assistant"]

    with talk("--resume", str(saved)) as t:
        t.wait_for(">>> What is GGUF?")
        t.wait_for("file format of llama.cpp")
        t.send("\x04")  # Ctrl-D
        assert t.wait_end() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGTERM, 143)]
)
def test_the_last_chat_is_kept_however_it_ends(
    talk: Callable[..., Terminal], home: Path, end: signal.Signals, code: int
) -> None:
    with talk() as t:
        t.enter("What is GGUF?")
        t.wait_for(PROMPT, count=2)
        assert read_chats(home)[0].messages[1].content, "kept after the turn"
        if end == signal.SIGINT:
            t.send("\x03")
            t.wait_for("to quit: Ctrl-C again, or Ctrl-D")
            t.send("\x03")
        else:
            os.kill(t.pid, end)
        assert t.wait_end() == code
        assert "Traceback" not in t.text
    with talk("-c") as t:
        t.wait_for(">>> What is GGUF?")
        t.enter("/quit")
        assert t.wait_end() == 0


@pytest.mark.slow
def test_a_killed_chat_keeps_what_there_was_of_the_answer(
    talk: Callable[..., Terminal], home: Path, endless: tuple[str, ...]
) -> None:
    with talk(*endless) as t:
        t.enter("What is rain?")
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            found = find_chats(home, "What is rain?")
            if found and found[0].turns[-1].message.content.startswith("drip drip"):
                break
            time.sleep(0.1)
        os.kill(t.pid, signal.SIGKILL)
    (stored,) = find_chats(home, "What is rain?")
    assert [turn.message.role for turn in stored.turns] == ["user", "assistant"]
    assert stored.turns[1].finish_reason == "partial"
    assert stored.turns[1].message.content.startswith("drip drip")
    assert stored.turns[1].settings["temp"] == 0


@pytest.mark.slow
def test_a_private_chat_leaves_nothing(talk: Callable[..., Terminal], home: Path) -> None:
    before = [stored.summary for stored in read_chats(home)]
    with talk("--private") as t:
        t.enter("What is a secret?")
        t.wait_for(PROMPT, count=2)
        t.enter("/quit")
        assert t.wait_end() == 0
    assert [stored.summary for stored in read_chats(home)] == before
    files = [path for path in (home / "state").rglob("*") if path.is_file()]
    assert not any(b"What is a secret" in path.read_bytes() for path in files)


@pytest.mark.slow
def test_a_chat_file_opens_files_elsewhere_only_if_allowed(
    talk: Callable[..., Terminal], tmp_path: Path
) -> None:
    image = write(tmp_path / "private.png", png(picture(96, 96)))
    saved = tmp_path / "given" / "chat.json"
    saved.parent.mkdir()
    media = [{"kind": "image", "path": str(image)}]
    messages = [
        {"role": "user", "content": "What is it?", "media": media},
        {"role": "assistant", "content": "A picture."},
    ]
    saved.write_text(json.dumps({"format": "g4-chat", "version": 1, "messages": messages}))
    with talk() as t:
        t.enter(f"/load {saved}")
        t.wait_for("[y/N]")  # where lines are broken depends on the length of the path
        t.send("n\n")
        t.wait_for(PROMPT, count=2)
        assert "was not opened, since its files may not be" in " ".join(t.text.split())
        t.enter(f"/load {saved}")
        t.wait_for("[y/N]", count=2)
        t.send("y\n")
        t.wait_for("A picture.")
        t.enter("/quit")
        assert t.wait_end() == 0


def read_chats(home: Path) -> list[StoredConversation]:
    """The saved conversations, the newest first."""
    with ConversationStore.open(home / "state" / "conversations.db") as store:
        return [store.load(summary.id) for summary in store.list_conversations()]


def find_chats(home: Path, question: str) -> list[StoredConversation]:
    """The saved conversations that begin with `question`: other tests have theirs in the store."""
    return [c for c in read_chats(home) if c.turns and c.turns[0].message.content == question]


@pytest.mark.slow
def test_no_conversation_is_lost_to_another(talk: Callable[..., Terminal], home: Path) -> None:
    """/clear and /load begin another one; /edit takes nothing back until it is sent."""
    before = {stored.summary.id for stored in read_chats(home)}
    with talk("-q") as t:
        assert "context 2,048" not in t.text, "no banner"
        t.enter("What is GGUF?")
        t.wait_for(PROMPT, count=2)
        t.enter("/edit")
        t.wait_for("What is GGUF?", count=2)
        t.send("\x03")  # empties the line
        t.enter("/clear")
        t.wait_for("conversation cleared")
        t.enter("What is Q4_0?")
        t.wait_for("4.5 bits per weight")
        t.wait_for(PROMPT, count=4)
        t.enter("/quit")
        assert t.wait_end() == 0
    new = [stored for stored in read_chats(home) if stored.summary.id not in before]
    asked = [stored.messages[0].content for stored in reversed(new)]
    assert asked == ["What is GGUF?", "What is Q4_0?"]


@pytest.mark.slow
def test_save_replaces_nothing_but_chats(talk: Callable[..., Terminal], tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("precious")
    with talk() as t:
        t.enter(f"/save {tmp_path}/no/chat.json")
        t.wait_for("no such folder")
        assert not (tmp_path / "no").exists()
        t.enter(f"/save {notes}")
        t.wait_for("Replace it? [y/N]")
        t.send("n\n")
        t.wait_for("not saved")
        assert notes.read_text() == "precious"
        t.enter(f"/save {tmp_path}/chat.json")
        t.wait_for("saved 0 questions")
        t.enter(f"/save {tmp_path}/chat.json")
        t.wait_for("saved 0 questions", count=2)
        t.enter("/quit")
        assert t.wait_end() == 0


@pytest.mark.slow
def test_every_line_is_drawn_once(talk: Callable[..., Terminal]) -> None:
    """Streamed Markdown is redrawn in place: the scroll-back must not hold a line twice."""
    with talk() as t:
        t.enter("What is GGUF?")
        t.wait_for(PROMPT, count=2)
        assert t.text.count("GGUF is the file format of llama.cpp") == 1
        # Only changed lines are written again: no full clear of the screen.
        assert b"\x1b[2J" not in t.raw


@pytest.mark.slow
def test_an_answer_of_html_and_code_is_on_the_screen(
    talk: Callable[..., Terminal], tmp_path: Path
) -> None:
    """A grammar that allows one text makes the model say it."""
    grammar = tmp_path / "html.gbnf"
    code = "".join(f"x{number} = {number}\\n" for number in range(40))
    answer = f"<note>\\n<to>Tove</to>\\n</note>\\n\\n__init__ of Vec<T>:\\n```python\\n{code}```\\n"
    grammar.write_text(f'root ::= "{answer}"\n')
    with talk("--grammar", str(grammar), "--no-loop-stop") as t:
        t.enter("x")
        t.wait_for(PROMPT, count=2)
        shown = t.text.split()
        for word in ("<note>", "<to>Tove</to>", "</note>", "__init__", "Vec<T>:", "x0", "x39"):
            assert shown.count(word) == 1, word
        t.enter("/quit")
        assert t.wait_end() == 0


@pytest.mark.slow
def test_a_terminal_that_cannot_move_its_cursor(talk: Callable[..., Terminal]) -> None:
    with talk(term="dumb", keeps_output=True) as t:
        t.enter("What is GGUF?")
        t.wait_for("all the tensors of a model.")
        assert b"\x1b[?2026h" not in t.raw
        t.wait_for(PROMPT, count=2)  # before it, Ctrl-C would end the answer
        t.wait_until_it_reads()
        t.send("\x03")
        t.wait_for("to quit: Ctrl-C again, or Ctrl-D")
        t.wait_for(PROMPT, count=3)
        t.enter('"""What is')
        t.wait_for("\n...")
        t.enter('GGUF?"""')
        t.wait_for(PROMPT, count=4)
        t.enter("/quit")
        assert t.wait_end() == 0


@pytest.mark.slow
def test_a_full_context_drops_old_turns_and_says_so(talk: Callable[..., Terminal]) -> None:
    with talk("--ctx", "256") as t:
        for number in range(1, 6):
            t.enter("What is GGUF?")
            t.wait_for(PROMPT, count=number + 1)
        assert "warning: the context is full: the prompt omits the oldest" in t.text
        # The mark of waiting leaves no trace.
        assert "\n...\n" not in t.text
        t.enter("/quit")
        assert t.wait_end() == 0


@pytest.mark.slow
def test_a_question_of_several_lines(talk: Callable[..., Terminal]) -> None:
    with talk() as t:
        t.enter('"""What is')
        t.wait_for("...")
        t.enter('GGUF?"""')
        t.wait_for(PROMPT, count=2)
        t.send("one\x1b\rtwo")  # Alt-Enter
        t.wait_for("... two")
        t.send("\x03")  # Ctrl-C empties the line
        t.enter("/quit")
        assert t.wait_end() == 0


@pytest.mark.slow
def test_pictures(talk: Callable[..., Terminal], tmp_path: Path) -> None:
    """By command, by a path dropped on the prompt, and a file that is none."""
    image = write(tmp_path / "my picture.png", png(picture(480, 336)))
    with talk("--mmproj", str(MMPROJ), "--image-tokens", "70", "-n", "4") as t:
        t.enter(f"/image {image}")
        t.wait_for("tokens; now ask about it")
        t.enter("What is it?")
        t.wait_for(PROMPT, count=3)
        t.enter(str(image).replace(" ", "\\ "))
        t.wait_for("tokens; now ask about it", count=2)
        t.enter(f"what is it? '{image}'")
        t.wait_for(PROMPT, count=5)
        t.enter("/audio /etc/hostname")
        t.wait_for("hint: audio formats: wav, mp3, flac")
        t.enter("/quit")
        assert t.wait_end() == 0


@pytest.mark.slow
def test_ctrl_c_while_a_sound_is_encoded(talk: Callable[..., Terminal], tmp_path: Path) -> None:
    # 50 minutes of sound, which no machine encodes before the test, delayed by others, has seen it.
    long = write(tmp_path / "long.wav", wav(np.tile(sound(160_000), 300)))
    with talk("--mmproj", str(MMPROJ), "-n", "4") as t:
        t.enter(f"/audio {long}")
        t.wait_for("encoding long.wav")
        t.send("\x03")
        t.wait_for("stopped: long.wav was not added")
        t.enter("What is GGUF?")
        t.wait_for(PROMPT, count=3)
        assert "GGUF is" in t.text
        t.enter("/quit")
        assert t.wait_end() == 0


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("{}", "image"),
        ("'{}'", "image"),
        (" {} ", "image"),
        ("what is {}", None),
        ("/no/such.png", None),
        ("hi", None),
        ("'{}' what is it?", "image"),
        ('what is it? "{}"', "image"),
        ("what's '{}' now?", None),
    ],
)
def test_dropped_files(tmp_path: Path, line: str, kind: str | None) -> None:
    path = write(tmp_path / "a b.png", b"x")
    found, rest = split_dropped_files(line.format(path))
    assert found == ([(kind, path)] if kind else [])
    assert rest == ("what is it?" if "it?" in line else "" if kind else line.format(path))


def test_dropped_files_with_backslashes(tmp_path: Path) -> None:
    one = write(tmp_path / "it's (1).png", b"x")
    other = write(tmp_path / "b.wav", b"x")
    pasted = str(one).replace("'", "\\'").replace(" ", "\\ ").replace("(", "\\(")
    found, rest = split_dropped_files(f"{pasted} {other} compare them")
    assert (found, rest) == ([("image", one), ("audio", other)], "compare them")


def test_files_dropped_before_and_after_a_long_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a b.png", b"x")
    text = "word " * 2_000 + "end"
    assert split_dropped_files(f"'{path}' {text} '{path}'") == ([("image", path)] * 2, text)


@pytest.mark.parametrize(
    "line",
    [
        "~5 minutes: how many seconds?",
        "~nobody-here/a.png what is it?",
        "~\0/a.png",
        f"{'long ' * 99}a.png",
        f"/{'x' * 300}.png what is it?",
        f"/{'x' * 5000}.png",
    ],
)
def test_questions_that_name_no_file(line: str) -> None:
    assert split_dropped_files(line) == ([], line)


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("/help", True),
        ("/nonsense", True),
        ("/?", True),
        ("/system Be short.", True),
        ("/etc/passwd holds what?", False),
        ("//help", False),
        ("/* a comment */", False),
        ("help", False),
    ],
)
def test_commands_and_questions(line: str, is_one: bool) -> None:
    assert is_command(line) is is_one


@pytest.mark.slow
def test_completion_and_history(talk: Callable[..., Terminal], home: Path) -> None:
    with talk() as t:
        t.send("/und\t")
        t.wait_for("/undo")
        t.enter("")
        t.wait_for("there is no question to remove")
        t.send("\x1b[A")  # the line before
        t.wait_for("/undo", count=2)
        t.send("\x03")
        t.send(f"/model {home}/ti\t")
        t.wait_for("tiny.gguf", count=2)
        t.send("\x03")
        t.enter("/etc/passwd holds what?")
        t.wait_for("I am a tiny demonstration model")
        t.wait_for(PROMPT, count=3)
        assert "no such command" not in t.text
        t.send("\x03")
        t.wait_for("to quit: Ctrl-C again, or Ctrl-D")
        t.enter("exit")
        assert t.wait_end() == 0


@pytest.fixture
def endless(tmp_path: Path) -> tuple[str, ...]:
    """The options of a chat whose answers run until they are stopped."""
    (tmp_path / "endless.gbnf").write_text(ENDLESS)
    return ("--no-loop-stop", "--ctx", "100000", "--grammar", str(tmp_path / "endless.gbnf"))


@pytest.mark.slow
def test_ctrl_c_stops_the_answer_and_the_second_leaves(
    talk: Callable[..., Terminal], endless: tuple[str, ...]
) -> None:
    with talk(*endless) as t:
        t.enter("Tell me everything")
        t.wait_for("drip drip")
        os.kill(t.pid, signal.SIGINT)
        t.wait_for("stopped; /retry answers again")  # how soon: tests/bench/bench_interrupt.py
        t.wait_for(PROMPT, count=2)
        t.enter("/save /dev/null/x")
        t.wait_for("error:")
        t.wait_for(PROMPT, count=3)
        t.send("\x03")
        t.wait_for("to quit: Ctrl-C again")
        t.send("\x03")
        assert t.wait_end() == 130


@pytest.mark.slow
@pytest.mark.requires_linux
def test_ctrl_d_leaves_even_while_the_answer_stops(
    talk: Callable[..., Terminal], endless: tuple[str, ...]
) -> None:
    """As with a distant worker, which may take seconds to stop."""
    with talk(*endless) as t:
        t.enter("Tell me everything")
        t.wait_for("drip drip")
        model = model_process(t.pid)
        os.kill(model, signal.SIGSTOP)
        t.send("\x03\x04")
        os.kill(model, signal.SIGCONT)
        assert t.wait_end() == 0


@pytest.mark.slow
def test_control_characters_do_not_reach_the_terminal(talk: Callable[..., Terminal]) -> None:
    """At temperature 3 the little network emits raw control bytes: they are shown as \\xNN."""
    with talk(
        "--temp", "5", "--top-k", "0", "--top-p", "1", "--seed", "3", "-n", "300", "--no-loop-stop"
    ) as t:
        t.enter("x")
        t.wait_for(PROMPT, count=2)
        assert b"\x07" not in t.raw
        assert "\\x" in t.text
        t.enter("/quit")
        assert t.wait_end() == 0


def model_process(front: int) -> int:
    """Return the number of the process that runs the model for the process `front`."""
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == front and b"engine.worker" in (folder / "cmdline").read_bytes():
                return int(folder.name)
        except (OSError, ValueError):
            continue
    raise AssertionError("no process runs the model")


def crash_model_process(front: int) -> None:
    """Return when the process that runs the model for `front` has died of a signal."""
    pid = model_process(front)
    os.kill(pid, signal.SIGSEGV)
    assert wait_until_gone(pid)


@pytest.mark.slow
@pytest.mark.requires_linux
def test_a_crash_costs_one_answer(talk: Callable[..., Terminal], endless: tuple[str, ...]) -> None:
    """The model's process is killed in the middle of an answer, and between two questions."""
    with talk("--no-loop-stop", "--ctx", "100000") as t:
        t.enter("What is GGUF?")
        t.wait_for("file format of llama.cpp")
        t.wait_for(PROMPT, count=2)
        crash_model_process(t.pid)
        t.enter("What is Q4_0?")
        t.wait_for("loading the model again")
        t.wait_for("4.5 bits per weight")
        t.wait_for(PROMPT, count=3)
        t.enter("/quit")
        assert t.wait_end() == 0
    with talk(*endless) as t:
        t.enter("What is GGUF?")
        t.wait_for("drip drip")
        crash_model_process(t.pid)
        t.wait_for("error: the process that runs the model ended (SIGSEGV")
        t.wait_for("the conversation is kept")
        t.wait_for(PROMPT, count=2)
        t.enter("/retry")
        t.wait_for("loading the model again")
        n_shown = t.text.count("drip drip")
        t.wait_for("drip drip", count=n_shown + 1)
        t.send("\x03")
        t.wait_for("stopped; /retry answers again")
        t.enter("/quit")
        assert t.wait_end() == 0


@pytest.mark.slow
def test_a_model_that_will_not_load_leaves_the_one_before(
    talk: Callable[..., Terminal], tmp_path: Path
) -> None:
    """llama.cpp dies of this file; nothing of it can be seen in the header."""
    keys, tensors = tiny_parts()
    others = [tensor for tensor in tensors if tensor[0] != "rope_freqs.weight"]
    freqs = ("rope_freqs.weight", F16, [64], np.ones(64, np.float16).tobytes())
    fatal = write(tmp_path / "fatal.gguf", build_gguf(keys, [*others, freqs]))
    with talk() as t:
        t.enter("What is GGUF?")
        t.wait_for(PROMPT, count=2)
        t.enter(f"/model {fatal}")
        t.wait_for("going back to")
        t.wait_for("llama.cpp crashed while loading")
        t.wait_for(">>> What is GGUF?", count=2)
        t.enter("What is Q4_0?")
        t.wait_for("4.5 bits per weight")
        t.enter("/quit")
        assert t.wait_end() == 0
