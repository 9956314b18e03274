"""Layers on other machines: the same answers, each worker as planned, and what a failure leaves.

The workers are processes of this machine, which llama.cpp reaches by its network protocol.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from g4cli.chat import Finished, TurnOptions
from g4cli.core.child import start_child
from g4cli.core.errors import EngineMissing, G4Error, NetworkError, RuntimeFailed
from g4cli.core.gguf import read_header
from g4cli.core.shape import shape_of
from g4cli.core.units import MIB
from g4cli.estimate import Options, estimate_memory
from g4cli.prompt.messages import Part
from g4cli.prompt.reply import AnswerText
from g4cli.runtime.engine.client import EngineClient
from g4cli.runtime.engine.drafting import DraftChoice
from g4cli.runtime.engine.messages import Open, RunTurn
from g4cli.runtime.engine.options import ContextOptions, ModelOptions, Sampling
from g4cli.runtime.llama import rpc
from g4cli.runtime.rpc import server
from tests.support.builders.small_networks import write_small_network
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.rpc_server import WorkerProcess, running_worker
from tests.support.run.g4_process import PROGRAM
from tests.support.schemas import validate_output

# Loads a model in a process of its own, since llama.cpp keeps workers to its end. Prints the hash
# of the scores of a prompt and of those of each greedy token, and llama.cpp's log of buffers.
SCORES = """
import hashlib, json, sys
import numpy as np
from pathlib import Path
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, ModelOptions
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.runtime.llama.library import LOG
path, workers, layers, split = json.loads(sys.argv[1])
model = Model(Path(path), ModelOptions(n_gpu_layers=layers, workers=tuple(workers),
              tensor_split=tuple(split), use_extra_bufts=False))
log = [line.text for line in LOG.lines]
context = Context(model, ContextOptions(512, n_threads=1), Interrupt())
log += [line.text for line in LOG.lines]
context.decode_tokens([model.bos, *(i % model.n_vocab for i in range(100, 140))])
whole, tokens = hashlib.sha256(), []
for _ in range(40):
    scores = context.copy_logits()
    whole.update(scores)
    tokens.append(int(np.frombuffer(scores, np.float32).argmax()))
    context.decode_with_logits([tokens[-1]])
print(json.dumps([whole.hexdigest(), tokens, [l for l in log if "buffer size" in l]]))
"""
ENDLESS = RunTurn(
    (),
    Sampling(temp=9, top_k=0, top_p=1, seed=1),
    TurnOptions(on_loop="ignore"),
)
QUESTION = [Part("<|turn>user\nWhat is GGUF?<turn|>\n<|turn>model\n", control=True)]


def scores(path: Path, workers: list[str], layers: int = -1, split: tuple[int, ...] = ()) -> Any:
    arguments = json.dumps([str(path), workers, layers, split])
    done = subprocess.run(
        [sys.executable, "-c", SCORES, arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def workers() -> Iterator[list[WorkerProcess]]:
    with (
        running_worker("--threads", "1") as one,
        running_worker("--threads", "1") as two,
        running_worker("--threads", "1") as three,
    ):
        yield [one, two, three]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network like 31B, none of whose layers share keys."""
    name = "gemma-4-31B-it-qat-q4_0-unquantized"
    return write_small_network(tmp_path_factory.mktemp("dense"), name)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    path.write_bytes(build_tiny())
    return path


@pytest.mark.requires_rpc
@pytest.mark.parametrize("network", ["tiny", "dense"])
def test_scores_are_equal_to_the_bit(
    network: str, request: pytest.FixtureRequest, workers: list[WorkerProcess]
) -> None:
    """One, two and three workers with the processor of this machine against none.

    With all layers, with some on the host, in other proportions, and with the output alone.
    """
    path: Path = request.getfixturevalue(network)
    alone = scores(path, [], 0)
    n_all = shape_of(read_header(path)).n_layer + 1
    addresses = [worker.address for worker in workers]
    for n, layers, split in (
        (1, -1, ()),
        (2, -1, ()),
        (3, -1, ()),
        (2, n_all - 2, (1, 2)),
        (3, -1, (n_all - 2, 1, 1)),
        (2, 1, ()),
    ):
        found = scores(path, addresses[:n], layers, split)
        assert found[:2] == alone[:2], (n, layers, split)


@pytest.mark.requires_rpc
def test_each_worker_holds_what_was_planned(dense: Path, workers: list[WorkerProcess]) -> None:
    header = read_header(dense)
    shape, tensors = shape_of(header), tuple(header.tensors.values())
    n_all = shape.n_layer + 1
    split = (n_all - 2, 1)
    log = scores(dense, [w.address for w in workers[:2]], n_all - 1, split)[2]
    options = Options(512, n_gpu_layers=n_all - 1, tensor_split=tuple(map(float, split)))
    planned = estimate_memory(shape, tensors, options, ("RPC0", "RPC1"))
    for index, worker in enumerate(workers[:2]):
        lines = [line for line in log if f"[{worker.address}]" in line]
        for group, words in (("weights", "model buffer"), ("kv", "KV buffer")):
            found = sum(float(x.split("=")[1].split()[0]) for x in lines if words in x) * MIB
            expected = planned.sum_bytes(group=group, device=f"RPC{index}")  # type: ignore[arg-type]
            # The log rounds each buffer to 0.01 MiB; llama.cpp pads each tensor to 32 bytes.
            assert abs(found - expected) <= 0.011 * MIB * max(1, len(lines)), (index, group)


def opening(path: Path, *workers: str) -> Open:
    return Open(
        path,
        ModelOptions(workers=workers),
        ContextOptions(2048),
        DraftChoice("off", "not asked for"),
    )


@pytest.mark.requires_rpc
def test_a_killed_worker_ends_the_answer_and_the_next_one_works_when_it_is_back(
    tiny: Path,
) -> None:
    with running_worker() as worker, EngineClient() as engine:
        engine.open(opening(tiny, worker.address))
        request = replace(ENDLESS, prompt=engine.tokens_of(QUESTION))
        events = engine.run_turn(request)
        for _ in range(3):
            next(events)
        worker.kill()
        with pytest.raises(RuntimeFailed, match="connection to a worker of --rpc broke") as caught:
            list(events)
        assert caught.value.hint == (
            "start it again (g4 worker), then repeat the request (in a chat: /retry)"
        )
        assert caught.value.exit_code == 7
        assert engine.has_ended
        with pytest.raises(NetworkError, match="no connection to the worker"):
            engine.reopen()
        with running_worker(port=worker.port):
            engine.reopen()
            greedy = replace(request, sampling=Sampling(temp=0), options=TurnOptions())
            answered = list(engine.run_turn(greedy))
    assert isinstance(answered[-1], Finished)
    text = "".join(e.text for e in answered if isinstance(e, AnswerText))
    assert text.startswith("GGUF is the file format of llama.cpp")


@pytest.mark.requires_rpc
def test_a_second_client_is_refused_with_the_reason(tiny: Path) -> None:
    with running_worker() as worker, EngineClient() as first, EngineClient() as second:
        first.open(opening(tiny, worker.address))
        with pytest.raises(RuntimeFailed, match="serves another client"):
            second.open(opening(tiny, worker.address))
        first.close()
        deadline = time.monotonic() + 60
        while True:  # the worker notices the end of the first one
            try:
                second.open(opening(tiny, worker.address))
                break
            except G4Error:
                assert time.monotonic() < deadline
        assert second.loaded.n_ctx == 2048


@pytest.mark.requires_rpc
def test_a_client_that_makes_llama_cpp_abort_costs_no_other_client(tiny: Path) -> None:
    with running_worker() as worker:
        with socket.create_connection(("127.0.0.1", worker.port), timeout=30) as hostile:

            def ask(command: int, body: bytes, size: int) -> bytes:
                hostile.sendall(struct.pack("<BQ", command, len(body)) + body)
                assert struct.unpack("<Q", hostile.recv(8, socket.MSG_WAITALL)) == (size,)
                return hostile.recv(size, socket.MSG_WAITALL)

            ask(14, bytes(24), 28)
            buffer, _ = struct.unpack("<QQ", ask(0, struct.pack("<IQ", 0, 4096), 16))
            # A tensor whose data lie before its buffer: GGML_ASSERT in deserialize_tensor.
            tensor = struct.pack("<QIQ4I4I", 1, 0, buffer, 4, 1, 1, 1, 4, 16, 16, 16)
            tensor += bytes(4 + 64 + 4 + 80 + 8 + 8) + struct.pack("<Q", 16) + bytes(64 + 4)
            assert len(tensor) == 296
            hostile.sendall(struct.pack("<BQ", 6, 296 + 9 + 16) + tensor + bytes(9 + 16))
            assert hostile.recv(1) == b""
        deadline = time.monotonic() + 60
        with EngineClient() as engine:
            while True:
                try:
                    engine.open(opening(tiny, worker.address))
                    break
                except NetworkError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            assert engine.loaded.n_ctx == 2048


@pytest.mark.requires_rpc
def test_ctrl_c_ends_a_worker(tiny: Path) -> None:
    with running_worker() as worker, EngineClient() as engine:
        validate_output(worker.start, "worker")
        engine.open(opening(tiny, worker.address))
        worker.process.send_signal(signal.SIGINT)
        assert worker.process.wait(60) == 0
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", worker.port), timeout=5)


def test_a_build_without_rpc_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    library = SimpleNamespace(llama_supports_rpc=lambda: False)
    monkeypatch.setattr(rpc, "load_llama", lambda: library)
    with pytest.raises(EngineMissing, match="without its RPC backend") as caught:
        rpc.register_workers(["127.0.0.1:1"])
    assert caught.value.hint is not None
    assert "g4cli.core.build_flags" in caught.value.hint
    assert "--force-reinstall" in caught.value.hint
    assert rpc.register_workers(()) == ()


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        server,
        "start_child",
        lambda *_args, **options: start_child("tests.support.run.failing_child", **options),
    )
    with pytest.raises(RuntimeFailed, match="the driver is too old"):
        server.RpcServer(server.ServerOptions(port=0))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--host", "0.0.0.0"], "--insecure-network"),
        (["--host", "192.168.1.20"], "could take this machine over"),
        (["--device", "NO-SUCH"], "no device"),
    ],
)
@pytest.mark.requires_rpc
def test_what_a_worker_refuses(args: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "worker", "--port", "0", *args],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.requires_rpc
def test_a_network_address_is_a_warning_when_it_is_wanted() -> None:
    with running_worker("--host", "0.0.0.0", "--insecure-network") as worker:
        worker.process.send_signal(signal.SIGINT)
        assert "never to open it to a network" in worker.process.communicate(timeout=60)[1]
