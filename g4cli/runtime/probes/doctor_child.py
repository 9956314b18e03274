"""The child process of `g4 doctor`: runs llama.cpp on an untrusted file and reports in JSON lines.

    echo '{"task": "greedy", "path": "x.gguf", "prompts": ["<bos>Hi"], "n_tokens": 32}' |
        python -m g4cli.runtime.probes.doctor_child

The request is one JSON object on standard input. Every line of the answer is an object with
"event"; it is flushed at once, so that the parent knows how far the child came if it crashes.
Tasks:

    machine  {}                                    -> {"event": "library"}, {"backends"}, {"kernels"}
    backends {}                                    -> {"event": "backends", ...}: which engines are loaded
    greedy   {path, prompts, n_tokens, options}    -> {"event": "loaded"}, one {"event": "run"} per prompt
    tokenize {path, texts, round_trips, tokens}    -> {"event": "tokenized", "ids", "round_trips", "ends"}

Prompts are whole: with <bos>, turns and all. "data_limit" (bytes) makes the kernel refuse this
process more memory than that, where it can (Linux); pages of the file, which is mapped, do not
count.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import G4Error, RuntimeFailed
from g4cli.runtime.llama.backends import read_backend_facts
from g4cli.runtime.llama.devices import list_devices
from g4cli.runtime.llama.library import build_info, engine_failure, load_llama
from g4cli.runtime.probes.kernels import probe_kernels

N_CTX: Final = 1024
N_BATCH: Final = 512
# A logit at 0.995 of the softcap of 30 and above is pinned there: tanh(3) * 30 = 29.85.
SATURATED: Final = 29.85
GGML_TYPES: Final = {"f32": 0, "f16": 1, "q8_0": 8, "q4_0": 2}


def main() -> None:
    """Answer the request on standard input."""
    request = json.loads(sys.stdin.read())
    _limit_process(int(request.get("data_limit", 0)))
    tasks = {
        "machine": _report_machine,
        "backends": _report_backends,
        "greedy": _run_greedy,
        "tokenize": _report_tokens,
    }
    try:
        tasks[request["task"]](request)
    except G4Error as err:
        _emit_event(event="error", message=err.message)
        sys.exit(err.exit_code)


def _limit_process(data_limit: int) -> None:
    """Leave no core file behind (a 20 GB model may be mapped), and take no more than `data_limit` bytes.

    RLIMIT_DATA counts private writable memory (brk and mmap, Linux 4.7 and later), so a mapped
    model is free; RLIMIT_AS would count it. macOS accepts the limit and does not enforce it: there
    the parent alone watches.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The drivers of GPUs reserve address space by the terabyte.
    if data_limit and sys.platform == "linux" and not _list_gpus():
        resource.setrlimit(resource.RLIMIT_DATA, (data_limit, data_limit))


def _list_gpus() -> list[str]:
    return [device.name for device in list_devices() if device.kind in ("gpu", "igpu")]


def _emit_event(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


def _report_machine(_request: dict[str, Any]) -> None:
    info = build_info()
    _emit_event(
        event="library",
        version=info.version,
        system_info=info.system_info,
        library=str(info.library),
    )
    _report_backends({})
    report = probe_kernels()
    _emit_event(
        event="kernels",
        products=[
            {"type": p.type, "layout": p.layout, "status": p.status, "detail": p.detail}
            for p in report.products
        ],
        use_extra_bufts=report.use_extra_bufts,
        reason=report.reason,
    )


def _report_backends(_request: dict[str, Any]) -> None:
    _emit_event(event="backends", **read_backend_facts())


class _Session:
    """One loaded model and a context, on the CPU unless the options say otherwise."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self.api = api = load_llama()
        params = api.llama_model_default_params()
        params.n_gpu_layers = int(options.get("n_gpu_layers", 0))
        params.use_extra_bufts = bool(options.get("use_extra_bufts", False))
        params.vocab_only = bool(options.get("vocab_only", False))
        self.model = api.llama_model_load_from_file(os.fsencode(path), params)
        if not self.model:
            raise engine_failure("llama.cpp does not load the file")
        self.vocab = api.llama_model_get_vocab(self.model)
        self.n_vocab = api.llama_vocab_n_tokens(self.vocab)
        self.context = None if params.vocab_only else self._make_context(options)

    def _make_context(self, options: dict[str, Any]) -> Any:
        api = self.api
        params = api.llama_context_default_params()
        params.n_ctx = int(options.get("n_ctx", N_CTX))
        params.n_batch = N_BATCH
        params.n_ubatch = int(options.get("n_ubatch", N_BATCH))
        # One row of scores; by default llama.cpp keeps room for a whole batch: 512 MiB.
        params.n_outputs_max = params.n_outputs_max_per_seq = 1
        params.swa_full = False
        # A build for GPUs would otherwise lend its GPU to what is meant to run on the CPU.
        params.offload_kqv = params.op_offload = int(options.get("n_gpu_layers", 0)) > 0
        params.flash_attn_type = int(options.get("flash_attn", 1))
        kv = GGML_TYPES[str(options.get("kv_type", "f16"))]
        params.type_k = params.type_v = kv
        context = api.llama_init_from_model(self.model, params)
        if not context:
            raise engine_failure("llama.cpp makes no context for the file")
        return context

    def tokenize(self, text: str) -> list[int]:
        data = text.encode()
        room = 4 * len(data) + 8  # a vocabulary without bytes spells them out
        tokens = (self.api.llama_token * room)()
        count = self.api.llama_tokenize(self.vocab, data, len(data), tokens, room, False, True)
        if count < 0:
            raise RuntimeFailed(f"the prompt has {-count} tokens, {room} were expected at most")
        return list(tokens[:count])

    def token_bytes(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        length = self.api.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, True)
        return buffer.raw[: max(0, length)]

    def logits_after(self, tokens: list[int]) -> NDArray[np.float32]:
        array = (self.api.llama_token * len(tokens))(*tokens)
        status = self.api.llama_decode(
            self.context, self.api.llama_batch_get_one(array, len(tokens))
        )
        if status != 0:
            raise engine_failure(f"llama_decode gave {status}")
        pointer = self.api.llama_get_logits_ith(self.context, -1)
        return np.array(np.ctypeslib.as_array(pointer, shape=(self.n_vocab,)), dtype=np.float32)

    def clear_memory(self) -> None:
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)


def _run_greedy(request: dict[str, Any]) -> None:
    session = _Session(request["path"], request.get("options") or {})
    _emit_event(event="loaded", n_vocab=session.n_vocab, gpus=_list_gpus())
    for prompt in request["prompts"]:
        session.clear_memory()
        _emit_event(
            event="run", prompt=prompt, **_run_prompt(session, prompt, int(request["n_tokens"]))
        )


def _report_tokens(request: dict[str, Any]) -> None:
    session = _Session(request["path"], {"vocab_only": True})
    back = []
    for text in request["round_trips"]:
        back.append(
            b"".join(session.token_bytes(t) for t in session.tokenize(text)).decode(
                "utf-8", "replace"
            )
        )
    _emit_event(
        event="tokenized",
        ids=[session.tokenize(text) for text in request["texts"]],
        round_trips=back,
        ends=[
            t < session.n_vocab and bool(session.api.llama_vocab_is_eog(session.vocab, t))
            for t in request["tokens"]
        ],
    )


def _run_prompt(session: _Session, text: str, n_tokens: int) -> dict[str, Any]:
    tokens: list[int] = []
    certainty: list[float] = []
    entropy: list[float] = []
    lowest, highest, non_finite, saturated = float("inf"), float("-inf"), 0, 0.0
    feed, ended = session.tokenize(text), False
    for _ in range(n_tokens):
        logits = session.logits_after(feed)
        finite = logits[np.isfinite(logits)]
        non_finite += logits.size - finite.size
        if not finite.size:
            break
        lowest, highest = min(lowest, float(finite.min())), max(highest, float(finite.max()))
        saturated = max(saturated, float(np.mean(np.abs(finite) >= SATURATED)))
        best = int(np.nanargmax(logits))
        weights = np.exp(finite - finite.max(), dtype=np.float64)
        weights /= weights.sum()
        certainty.append(round(float(weights.max()), 5))
        entropy.append(round(float(-(weights * np.log2(np.maximum(weights, 1e-300))).sum()), 4))
        if session.api.llama_vocab_is_eog(session.vocab, best):
            ended = True
            break
        tokens.append(best)
        feed = [best]
    answer = b"".join(session.token_bytes(t) for t in tokens).decode("utf-8", "replace")
    return {
        "tokens": tokens,
        "text": answer,
        "top_probability": certainty,
        "entropy": entropy,
        "lowest": lowest if lowest != float("inf") else 0.0,
        "highest": highest if highest != float("-inf") else 0.0,
        "non_finite": non_finite,
        "saturated": saturated,
        "ended": ended,
    }


if __name__ == "__main__":
    main()
