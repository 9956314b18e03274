"""Measure the prompt cache on disk: what it saves, what it costs, and whether it is exact.

    python tests/bench/bench_states.py FILE [--parts times bits] [--tokens 8000] [--kv f16 q8_0]
                                       [--threads N] [--llama-server PATH] [--answers 20] [--cold]
    python tests/bench/bench_states.py FILE --kills 50

FILE has preferably a real shape (-m tests.support.builders.real_shapes e2b q4_0 FILE --weights
random). Prints one JSON document. Everything runs in the worker process that `g4 chat` uses; a
"start" is a new one. Reading without the cache, a start with an empty prompt and a start with
everything read already are measured in one run, one after the other; `--llama-server` measures its
slot save and restore with the same prompt beside them. Bits are compared between the context that
was left and one that was restored, in this process. `--folder` keeps the states, for
bench_state_costs.py.

`--kills` kills writers with SIGKILL at random moments; after each, what can be restored must be
what was written, and nothing that no state names may stay.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS.parent))

import numpy as np  # noqa: E402

from g4cli.chat import PromptRead, TurnOptions  # noqa: E402
from g4cli.core.gguf import read_header  # noqa: E402
from g4cli.core.shape import shape_of  # noqa: E402
from g4cli.runtime.engine.client import EngineClient  # noqa: E402
from g4cli.runtime.engine.context import Context  # noqa: E402
from g4cli.runtime.engine.drafting import DraftChoice  # noqa: E402
from g4cli.runtime.engine.messages import Open, RunTurn  # noqa: E402
from g4cli.runtime.engine.model import Model  # noqa: E402
from g4cli.runtime.engine.options import (  # noqa: E402
    ContextOptions,
    ModelOptions,
    Sampling,
    StateOptions,
)
from g4cli.runtime.engine.state_copy import count_state_bytes, put_state, take_state  # noqa: E402
from g4cli.runtime.llama.interrupt import Interrupt  # noqa: E402
from g4cli.store.states.folder import About, StateFolder, StateName  # noqa: E402
from g4cli.store.states.keys import digest_prefix, make_namespace, pack_tokens  # noqa: E402
from g4cli.store.states.rows import Table, Tables  # noqa: E402

GREEDY = Sampling(temp=0, ignore_eos=True)
LIMIT = 1 << 40


def make_prompt(n_tokens: int, n_vocab: int) -> tuple[int, ...]:
    rng = random.Random(1)
    return (2, *(rng.randrange(300, n_vocab) for _ in range(n_tokens - 1)))


class Start:
    """A new worker process, and the seconds from its start to the first token of an answer."""

    def __init__(self, args: argparse.Namespace, kv_type: str, states: StateOptions | None) -> None:
        self.began = time.perf_counter()
        self.client = EngineClient()
        context = ContextOptions(args.ctx, kv_type=kv_type, n_threads=args.threads)
        request = Open(
            args.file, ModelOptions(), context, DraftChoice("off", "not asked for"), states=states
        )
        self.client.open(request)
        self.loaded_s = time.perf_counter() - self.began

    def answer(self, prompt: tuple[int, ...], n_tokens: int) -> dict[str, float]:
        """Answer a prompt; seconds to the first token from here, and of the tokens after it."""
        started, read, first = time.perf_counter(), None, 0.0
        options = TurnOptions(max_tokens=n_tokens, on_loop="ignore")
        for event in self.client.run_turn(RunTurn(prompt, GREEDY, options)):
            if isinstance(event, PromptRead):
                read, first = event, time.perf_counter() - started
        assert read is not None
        return {
            "to_first_token_s": round(first, 3),
            "from_start_s": round(first + started - self.began, 3),
            "reused": read.reused,
            "decode_s": round(time.perf_counter() - started - first, 3),
        }

    def close(self, *, finish: bool = True) -> float:
        started = time.perf_counter()
        if finish:
            self.client.finish_states(600)
        waited = time.perf_counter() - started
        self.client.close()
        return round(waited, 3)


def measure_times(args: argparse.Namespace, kv_type: str, folder: Path) -> dict[str, Any]:
    """Read a prompt, and start again with it read already."""
    n_vocab = shape_of(read_header(args.file)).n_vocab
    prompt = make_prompt(args.tokens, n_vocab)
    states = StateOptions(folder, LIMIT, "bench", "bench")
    found: dict[str, Any] = {}

    start = Start(args, kv_type, states)
    found["read"] = start.answer(prompt, args.answer)
    found["read"]["write_after_answer_s"] = start.close()
    files = [*folder.rglob("*.state"), *folder.rglob("*.block")]
    found["disk_bytes"] = sum(path.stat().st_size for path in files)

    start = Start(args, kv_type, None)
    found["empty"] = start.answer(prompt[:2], 1)
    start.close(finish=False)

    longer = (*prompt, *make_prompt(9, n_vocab)[1:])
    start = Start(args, kv_type, states)
    found["restored"] = start.answer(longer, args.answer)
    start.close(finish=False)
    if args.cold:
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = Start(args, kv_type, states)
        found["restored_cold"] = start.answer(longer, 1)
        start.close(finish=False)
    saved = found["read"]["to_first_token_s"] / found["restored"]["to_first_token_s"]
    found["times_faster"] = round(saved, 1)
    above = found["restored"]["from_start_s"] - found["empty"]["from_start_s"]
    found["above_empty_start_s"] = round(above, 3)
    return found


def measure_bits(args: argparse.Namespace, kv_type: str) -> dict[str, Any]:
    """Compare scores and greedy answers of contexts that were left with restored ones."""
    model = Model(args.file, ModelOptions())
    options = ContextOptions(args.ctx, kv_type=kv_type, n_threads=args.threads)
    left, came = (Context(model, options, Interrupt()) for _ in range(2))
    n_tokens = min(args.tokens, args.bits_tokens)
    prompt = make_prompt(n_tokens, model.n_vocab)
    for start in range(0, n_tokens, left.n_batch):
        left.decode_tokens(prompt[start : start + left.n_batch])
    started = time.perf_counter()
    state = take_state(left)
    assert state is not None
    taken = time.perf_counter() - started
    started = time.perf_counter()
    assert put_state(came, state)
    put = time.perf_counter() - started
    rng = random.Random(2)
    equal = answers = 0
    largest = 0.0
    for _ in range(args.answers):
        token = rng.randrange(300, model.n_vocab)
        tokens = {}
        for context in (left, came):
            chosen, scores = token, b""
            for _ in range(args.steps):
                context.decode_with_logits([chosen])
                scores = context.copy_logits()
                chosen = int(np.frombuffer(scores, np.float32).argmax())
            tokens[context] = (chosen, scores)
            context.truncate(n_tokens)
        first, second = tokens[left], tokens[came]
        difference = np.frombuffer(first[1], np.float32) - np.frombuffer(second[1], np.float32)
        largest = max(largest, float(np.abs(difference).max()))
        equal += first[1] == second[1]
        answers += first[0] == second[0]
    n_state = count_state_bytes(left)
    for context in (left, came):
        context.close()
    model.close()
    return {
        "tokens": n_tokens,
        "state_bytes": n_state,
        "take_s": round(taken, 4),
        "put_s": round(put, 4),
        "compared": args.answers,
        "scores_equal_to_the_bit": equal,
        "answers_equal": answers,
        "largest_difference": largest,
    }


def measure_llama_server(args: argparse.Namespace, kv_type: str, folder: Path) -> dict[str, Any]:
    """Read the prompt with llama-server, save the slot, restore it in a new server, read again."""
    n_vocab = shape_of(read_header(args.file)).n_vocab
    prompt = list(make_prompt(args.tokens, n_vocab))
    command = [
        *(str(args.llama_server), "-m", str(args.file), "--port", "18473", "-c", str(args.ctx)),
        *("-np", "1", "--slot-save-path", str(folder), "--no-warmup", "-fa", "on"),
        *("-ctk", kv_type, "-ctv", kv_type, "--no-webui"),
        *(("-t", str(args.threads)) if args.threads else ()),
    ]

    def post(path: str, body: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:18473{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=3600) as answer:
            return json.load(answer)

    def ask(tokens: list[int]) -> dict[str, Any]:
        timings = post("/completion", {"prompt": tokens, "n_predict": 1, "cache_prompt": True})
        found = timings["timings"]
        return {"read_tokens": found["prompt_n"], "read_s": round(found["prompt_ms"] / 1000, 3)}

    found: dict[str, Any] = {}
    for run in ("read", "restored"):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
            try:
                wait_for_server()
                if run == "restored":
                    started = time.perf_counter()
                    post("/slots/0?action=restore", {"filename": "slot"})
                    found["restore_s"] = round(time.perf_counter() - started, 3)
                    found[run] = ask([*prompt, *make_prompt(9, n_vocab)[1:]])
                else:
                    found[run] = ask(prompt)
                    post("/slots/0?action=save", {"filename": "slot"})
            finally:
                one.terminate()
                one.wait(20)
    found["disk_bytes"] = (folder / "slot").stat().st_size
    return found


def wait_for_server() -> None:
    for _ in range(1200):
        try:
            with urllib.request.urlopen("http://127.0.0.1:18473/health", timeout=1):
                return
        except OSError:
            time.sleep(0.25)
    raise SystemExit("llama-server does not start")


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.bench.bench_states import write_for_ever
write_for_ever(Path(sys.argv[2]), int(sys.argv[3]))
"""


def make_state(n_tokens: int, seed: int) -> tuple[bytes, Tables]:
    rows = np.random.default_rng(seed).bytes(n_tokens * 4096)
    state = b"head" + rows + b"window"
    return state, Tables(len(state), (Table(4, 4096),), n_tokens // 256)


def write_for_ever(folder: Path, seed: int) -> None:
    """Write growing states until somebody kills this process."""
    states = StateFolder(folder, LIMIT)
    while True:
        for n_tokens in range(300, 4000, 300):
            write_one(states, n_tokens, seed)
            print(n_tokens, flush=True)


def write_one(states: StateFolder, n_tokens: int, seed: int) -> None:
    state, tables = make_state(n_tokens, seed)
    name = StateName(n_tokens, digest_prefix(pack_tokens([seed] * n_tokens)))
    states.write_state(make_namespace([seed]), About("m", "m", "f16"), name, state, tables)


def kill_writers(n_kills: int) -> dict[str, Any]:
    """Kill writers at random moments; count wrong states, and what is left behind."""
    rng = random.Random(time.time_ns())
    read = wrong = left = 0
    with tempfile.TemporaryDirectory() as folder:
        states = StateFolder(Path(folder), LIMIT)
        for kill in range(n_kills):
            command = [sys.executable, "-c", WRITER, str(TESTS.parent), folder, str(kill)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                child.stdout.readline()  # one is written
                time.sleep(rng.random() * 0.2)
                child.send_signal(signal.SIGKILL)
            states.clean()
            left += sum(path.name.endswith(".g4-tmp") for path in Path(folder).rglob("*"))
            packed = pack_tokens([kill] * 4000)
            namespace = make_namespace([kill])
            for name in states.find_states(namespace, packed):
                found = states.read_state(namespace, name, lambda n: memoryview(bytearray(n)))
                expected = make_state(name.n_tokens, kill)[0]
                read += 1
                wrong += found is None or bytes(found[1]) != expected
    return {"kills": n_kills, "states_read": read, "wrong": wrong, "left_behind": left}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers and workers end with it
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--kv", nargs="+", default=["f16", "q8_0"])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--answer", type=int, default=32)
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--bits-tokens", type=int, default=1500)
    parser.add_argument("--parts", nargs="+", choices=["times", "bits"], default=["times", "bits"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--kills", type=int, default=0)
    args = parser.parse_args()
    args.ctx = (args.tokens + 1024 + 255) // 256 * 256
    if args.kills:
        print(json.dumps(kill_writers(args.kills), indent=1))
        return
    result: dict[str, Any] = {"file": args.file.name, "tokens": args.tokens}
    for kv_type in args.kv:
        result[kv_type] = {}
        if "times" in args.parts:
            with tempfile.TemporaryDirectory() as folder:
                result[kv_type] = measure_times(args, kv_type, args.folder or Path(folder))
        if "bits" in args.parts:
            result[kv_type]["bits"] = measure_bits(args, kv_type)
        print(json.dumps(result, indent=1), file=sys.stderr, flush=True)
        if args.llama_server:
            with tempfile.TemporaryDirectory() as folder:
                found = measure_llama_server(args, kv_type, Path(folder))
            result[kv_type]["llama_server"] = found
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
