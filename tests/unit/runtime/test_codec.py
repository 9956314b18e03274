"""Messages between processes: what is written is what is read, and nonsense is refused."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from g4cli.chat import DraftStats, Finished, FoundLoop, Reply, TurnOptions
from g4cli.core.errors import RuntimeFailed
from g4cli.prompt.messages import Media, Part, ToolCall
from g4cli.prompt.reply import AnswerText, CallMade, ThoughtEnded
from g4cli.runtime.engine.codec import FrameReader, ProtocolError
from g4cli.runtime.engine.drafting import DraftChoice
from g4cli.runtime.engine.ending import count_oom_kills, find_reason, make_exit_error
from g4cli.runtime.engine.messages import CODEC, Hello, Open, RunTurn, Tokenize
from g4cli.runtime.engine.options import ContextOptions, ModelOptions, Sampling

LOOP = FoundLoop("ab", 2, 3, 4, "noisy")
MESSAGES = (
    AnswerText('control \x1b, \ud800 and "quoted" é'),
    ThoughtEnded(),
    CallMade(ToolCall("f", {"a": [1, None, {"b": 2.5}]})),
    Hello(),
    Open(
        Path("/a b/\udcff.gguf"),
        ModelOptions(device="CUDA0"),
        ContextOptions(4096),
        DraftChoice("network", "by comparison", Path("d")),
        3,
    ),
    Tokenize((Part("x"), Part("", True, (1, 2)), Part("", media=Media("image", Path("p"))))),
    RunTurn((1, -2, 2**31 - 1, -(2**31)), Sampling(temp=0), TurnOptions(), "root ::= [a]"),
    Finished(
        Reply("t", "", (), "loop", False, 1, 2, 3, 0.5, 1, LOOP, (5, 6)),
        9,
        DraftStats(1, 2, None),
    ),
    Finished(Reply.interrupted(), 0, None),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_what_is_written_is_read(message: Any) -> None:
    frame = CODEC.encode(7, message)
    assert len(frame) == 4 + struct.unpack("<I", frame[:4])[0]
    assert CODEC.decode(frame[4:]) == (7, message)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[1]",
        b"[" * 100_000,
        b"\xff\xfe",
        b'[1,"Unheard",{}]',
        b'[1,"AnswerText",{}]',
        b'[1,"AnswerText",{"text":3}]',
        b'[1,"AnswerText",{"text":"a","more":1}]',
        b'["x","AnswerText",{"text":"a"}]',
        b'[1,"Tokens",{"ids":"!"}]',
        b'[1,"Tokens",{"ids":"AAA="}]',
        b'[1,"Tokens",{"ids":[1]}]',
        b'[1,"Progress",{"done":true,"total":0,"label":""}]',
    ],
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        CODEC.decode(data)


def test_a_choice_is_checked() -> None:
    data = json.loads(CODEC.encode(1, MESSAGES[-1])[4:])
    data[2]["reply"]["finish_reason"] = "whatever"
    with pytest.raises(ProtocolError, match="whatever"):
        CODEC.decode(json.dumps(data).encode())


def test_frames_are_cut_out_of_any_pieces() -> None:
    reading, writing = os.pipe()
    frames = FrameReader(reading)
    stream = b"".join(CODEC.encode(n, message) for n, message in enumerate(MESSAGES))
    found = []
    for at in range(0, len(stream), 7):
        os.write(writing, stream[at : at + 7])
        assert frames.read_more()
        while (frame := frames.take_frame()) is not None:
            found.append(CODEC.decode(frame))
    assert found == list(enumerate(MESSAGES))
    os.close(writing)
    assert not frames.read_more()
    os.close(reading)


def test_a_frame_without_end_is_refused() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"\xff\xff\xff\xff")
    frames = FrameReader(reading)
    frames.read_more()
    with pytest.raises(ProtocolError):
        frames.take_frame()
    os.close(writing)
    os.close(reading)


def test_find_reason() -> None:
    said = "llama: hello\nggml.c:12: GGML_ASSERT(a == b) failed\n#1 trace\n"
    assert find_reason(said) == "ggml.c:12: GGML_ASSERT(a == b) failed"
    said = "/llama.cpp/ggml/src/ggml-backend.cpp:812: pre-allocated tensor in a wrong buffer\n"
    assert find_reason(said + "#1 trace\n") == said.strip()  # GGML_ABORT
    said = "terminate called after throwing an instance of 'std::bad_alloc'\n"
    said += "  what():  std::bad_alloc\n"
    assert find_reason(said) == "std::bad_alloc"
    assert find_reason("x\nGGML_ASSERT(\x1b]52;evil)\n") == "GGML_ASSERT(?]52;evil)"
    assert find_reason("") == ""


@pytest.mark.parametrize(
    ("status", "opening", "out_of_memory", "kind", "said"),
    [
        (-6, "m.gguf", False, "bad-file", "m.gguf: llama.cpp crashed while loading this file"),
        (-6, None, False, "runtime-failed", "ended (SIGABRT: a GGML_ASSERT(x))"),
        (-9, "m.gguf", True, "no-memory", "not enough memory"),
        (-9, None, None, "no-memory", "probably not enough memory"),
        (-15, "m.gguf", False, "runtime-failed", "ended (SIGTERM"),
        (-9, None, False, "runtime-failed", "ended (SIGKILL"),
        (1, None, False, "runtime-failed", "ended (exit code 1"),
    ],
)
def test_how_a_worker_ended(
    status: int, opening: str | None, out_of_memory: bool | None, kind: str, said: str
) -> None:
    found = make_exit_error(
        status,
        "a GGML_ASSERT(x)\n",
        current_file=Path("model.gguf"),
        opening=Path(opening) if opening else None,
        out_of_memory=out_of_memory,
    )
    assert found.reference == kind
    assert said in found.message


def test_the_kernel_counts_its_kills(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("pgfault 9\noom_kill 3\noom_killer 7\n")
    assert count_oom_kills(tmp_path / "vmstat") == 3
    assert count_oom_kills(tmp_path / "none") is None


def test_a_lost_worker_of_rpc_is_not_blamed_on_the_file_that_is_loaded() -> None:
    """What llama.cpp's client writes when it aborts, ggml/src/ggml-rpc/ggml-rpc.cpp."""
    for said in (
        "ggml-rpc.cpp:625: Remote RPC server crashed or returned malformed response\n",
        "ggml-rpc.cpp:520: Failed to connect to 127.0.0.1:50052\n",
    ):
        found = make_exit_error(-6, said, current_file=Path("m.gguf"), opening=Path("m.gguf"))
        assert type(found) is RuntimeFailed
        assert "worker of --rpc" in found.message
        assert found.hint is not None
        assert "/retry" in found.hint
