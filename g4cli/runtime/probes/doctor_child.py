"""The child process of `g4 doctor`: runs llama.cpp on an untrusted file and reports in JSON lines.

    echo '{"task": "greedy", "path": "x.gguf", "prompts": ["<bos>Hi"], "n_tokens": 32}' |
        python -m g4cli.runtime.probes.doctor_child

The request is one JSON object on standard input. Every line of the answer is an object with
"event"; it is flushed at once, so that the parent knows how far the child came if it crashes.
The tasks with their parameters, and the events that answer them with their fields:

    machine  {}                                  library, backends, kernels
    backends {}                                  backends
    greedy   {path, prompts, n_tokens, options, text}
                                                 loaded: n_vocab, gpus; run: see _run_prompt;
                                                 read: surprise
    describe {path, texts, round_trips}          described: ids, round_trips, ends, bos, adds_bos

"greedy" answers each of `prompts` with up to `n_tokens` tokens (one event "run" each), then
measures how well the network predicts `text` (an event "read", unless `text` is ""); `options` are
read by Session, which has a default for each. `round_trips` are texts that are tokenized and
detokenized. `ends` lists the tokens that end an answer, as ids and texts. Prompts are complete,
from <bos> on, and so is `text`. With "data_limit" (bytes) the operating system refuses this process
more memory than that, where it can (Linux); the pages of the mapped file do not count.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.child import ChildLimits, set_limits
from g4cli.core.errors import G4Error, RuntimeFailed
from g4cli.core.ggml import ggml_type
from g4cli.doctor.probe.child import UNKNOWN_ARCHITECTURE, UNKNOWN_PRE_TOKENIZER
from g4cli.runtime.llama.backends import read_backend_facts
from g4cli.runtime.llama.devices import list_devices
from g4cli.runtime.llama.library import build_info, engine_failure, load_llama
from g4cli.runtime.probes.kernels import probe_kernels

_N_CTX: Final = 1024  # unless the request says otherwise, as that of doctor/probe/child.py does
_N_BATCH: Final = 512  # the most tokens of a prompt: longer than any of the doctor's
# Logits are softcap * tanh(x / softcap): at this share of the softcap (x is three times as large,
# tanh(3) = 0.995) different inputs give nearly the same logit.
_SATURATED_SHARE: Final = 0.995
_GEMMA4_SOFTCAP: Final = 30.0  # final_logit_softcapping in every Gemma 4's config.json
# Why llama.cpp refuses a file, by its messages (src/llama-model.cpp and src/llama-vocab.cpp,
# llama.cpp@0c1e57098): it has no codes for them.
_REFUSALS: Final = (
    (UNKNOWN_ARCHITECTURE, re.compile(r"unknown model architecture")),
    (UNKNOWN_PRE_TOKENIZER, re.compile(r"unknown pre-tokenizer type")),
)
_MAX_READ: Final = 64  # tokens of `text` that are evaluated, from its beginning: a choice
_MAX_ENDS: Final = 64  # more tokens than any vocabulary has to end an answer


def main() -> None:
    """Answer the request on standard input."""
    request = json.loads(sys.stdin.read())
    limit = int(request.get("data_limit", 0))
    if limit and not _list_gpus():  # the drivers of GPUs reserve address space by the terabyte
        set_limits(ChildLimits(data_bytes=limit))
    tasks = {
        "machine": _report_machine,
        "backends": _report_backends,
        "greedy": _run_greedy,
        "describe": _report_vocabulary,
    }
    try:
        tasks[request["task"]](request)
    except G4Error as err:
        code = next((code for code, text in _REFUSALS if text.search(err.message)), "")
        _emit_event(event="error", message=err.message, code=code)
        sys.exit(err.exit_code)


def _list_gpus() -> list[str]:
    return [device.name for device in list_devices() if device.kind in ("gpu", "igpu")]


def _emit_event(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


def _report_machine(_request: dict[str, Any]) -> None:
    info = build_info()
    versions = {"version": info.version, "system_info": info.system_info}
    _emit_event(event="library", **versions, library=str(info.library))
    _report_backends({})
    _emit_event(event="kernels", **asdict(probe_kernels()))


def _report_backends(_request: dict[str, Any]) -> None:
    _emit_event(event="backends", **read_backend_facts())


class Session:
    """A loaded model and its context, on the CPU unless the options say otherwise.

    This uses the C functions directly, not g4's engine: what the doctor reports must not depend on
    the code whose results it explains.
    """

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        self.api = api = load_llama()
        params = api.llama_model_default_params()
        params.n_gpu_layers = int(options.get("n_gpu_layers", 0))
        # Weights are not repacked unless asked for: that crashes on some CPUs (kernels.py).
        params.use_extra_bufts = bool(options.get("use_extra_bufts", False))
        params.vocab_only = bool(options.get("vocab_only", False))
        self.model = api.llama_model_load_from_file(os.fsencode(path), params)
        if not self.model:
            raise engine_failure("llama.cpp cannot load the file")
        self.vocab = api.llama_model_get_vocab(self.model)
        self.n_vocab = api.llama_vocab_n_tokens(self.vocab)
        # The magnitude from which on a logit counts as saturated.
        self.saturation = self._find_softcap() * _SATURATED_SHARE
        self.context = None if params.vocab_only else self._make_context(options)

    def _make_context(self, options: dict[str, Any]) -> Any:
        api = self.api
        params = api.llama_context_default_params()
        params.n_ctx = int(options.get("n_ctx", _N_CTX))
        params.n_batch = _N_BATCH
        params.n_ubatch = int(options.get("n_ubatch", _N_BATCH))
        # Few rows of logits; by default llama.cpp keeps room for those of a whole batch: 512 MiB
        # for 512 tokens and Gemma 4's vocabulary of 262,144.
        params.n_outputs_max = params.n_outputs_max_per_seq = int(options.get("n_outputs", 1))
        params.swa_full = False
        # A build for GPUs would otherwise offload some operations of a run on the CPU.
        params.offload_kqv = params.op_offload = int(options.get("n_gpu_layers", 0)) > 0
        params.flash_attn_type = int(options.get("flash_attn", 1))  # 1: on, 0: off
        params.type_k = params.type_v = ggml_type(str(options.get("kv_type", "f16"))).id
        context = api.llama_init_from_model(self.model, params)
        if not context:
            raise engine_failure("llama.cpp cannot create a context for the file")
        return context

    def _find_softcap(self) -> float:
        """Return the magnitude that no logit of this network can exceed, or infinity."""
        name = self._read_key("general.architecture")
        # A Gemma 4 has it, whatever a damaged file says.
        if name.startswith("gemma4"):
            return _GEMMA4_SOFTCAP
        try:
            return float(self._read_key(f"{name}.final_logit_softcapping")) or float("inf")
        except ValueError:
            return float("inf")

    def _read_key(self, key: str) -> str:
        """Return the value of a scalar key of the file as text, "" if it has no such key."""
        buffer = ctypes.create_string_buffer(256)
        length = self.api.llama_model_meta_val_str(self.model, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else ""

    def tokenize(self, text: str) -> list[int]:
        data = text.encode()
        size = 4 * len(data) + 8  # a byte may take several tokens: without byte tokens it is <0x..>
        tokens = (self.api.llama_token * size)()
        # No BOS is added, since the prompts have one; control tokens in the text are recognized.
        count = self.api.llama_tokenize(self.vocab, data, len(data), tokens, size, False, True)
        if count < 0:
            raise RuntimeFailed(f"the prompt has {-count} tokens, more than {size}")
        return list(tokens[:count])

    def detokenize(self, tokens: list[int]) -> str:
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        length = self.api.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, True)
        return buffer.raw[: max(0, length)]

    def logits_after(self, tokens: list[int]) -> NDArray[np.float32]:
        """Evaluate `tokens` after those in the context; return a copy of the last one's logits."""
        array = (self.api.llama_token * len(tokens))(*tokens)
        status = self.api.llama_decode(
            self.context, self.api.llama_batch_get_one(array, len(tokens))
        )
        if status != 0:
            raise engine_failure(f"llama_decode returned {status}")
        pointer = self.api.llama_get_logits_ith(self.context, -1)
        return np.array(np.ctypeslib.as_array(pointer, shape=(self.n_vocab,)), dtype=np.float32)

    def measure_surprise(self, tokens: list[int]) -> float:
        """Return the mean of -log2 of the probability of each token after those before it.

        NaN if a logit is not finite, or with fewer than two tokens.
        """
        n = len(tokens)
        batch = self.api.llama_batch_init(n, 0, 1)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, i, True
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        batch.n_tokens = n
        status = self.api.llama_decode(self.context, batch)
        self.api.llama_batch_free(batch)
        if status != 0:
            raise engine_failure(f"llama_decode returned {status}")
        bits = []
        for i in range(n - 1):
            pointer = self.api.llama_get_logits_ith(self.context, i)
            logits = np.ctypeslib.as_array(pointer, shape=(self.n_vocab,)).astype(np.float64)
            logits -= logits.max()
            bits.append((np.log(np.exp(logits).sum()) - logits[tokens[i + 1]]) / np.log(2))
        return float(np.mean(bits)) if bits else float("nan")

    def clear_memory(self) -> None:
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)


def _run_greedy(request: dict[str, Any]) -> None:
    text = str(request.get("text", ""))
    options = {"n_outputs": _MAX_READ if text else 1, **(request.get("options") or {})}
    session = Session(request["path"], options)
    _emit_event(event="loaded", n_vocab=session.n_vocab, gpus=_list_gpus())
    for prompt in request["prompts"]:
        session.clear_memory()
        _emit_event(
            event="run", prompt=prompt, **_run_prompt(session, prompt, int(request["n_tokens"]))
        )
    if text:
        session.clear_memory()
        surprise = session.measure_surprise(session.tokenize(text)[:_MAX_READ])
        # NaN is no JSON.
        _emit_event(event="read", surprise=round(surprise, 4) if np.isfinite(surprise) else None)


def _report_vocabulary(request: dict[str, Any]) -> None:
    session = Session(request["path"], {"vocab_only": True})
    api, vocab = session.api, session.vocab
    bos = api.llama_vocab_bos(vocab)
    ends = [t for t in range(session.n_vocab) if api.llama_vocab_is_eog(vocab, t)][:_MAX_ENDS]
    _emit_event(
        event="described",
        ids=[session.tokenize(text) for text in request["texts"]],
        round_trips=[session.detokenize(session.tokenize(t)) for t in request["round_trips"]],
        ends=[(t, session.detokenize([t])) for t in ends],
        bos=session.detokenize([bos]) if bos >= 0 else "",
        adds_bos=bool(api.llama_vocab_get_add_bos(vocab)),
    )


def _run_prompt(session: Session, text: str, n_tokens: int) -> dict[str, Any]:
    """Return the greedy answer to a prompt and what its logits looked like.

    "top_probability" and "entropy" (bits) hold one number per generated token; "lowest" and
    "highest" are those of all finite logits, "non_finite" counts the others, and "saturated" is the
    largest share of a row's logits at the softcap.
    """
    tokens: list[int] = []
    top_probability: list[float] = []
    entropy: list[float] = []
    extremes: list[float] = []
    non_finite, saturated = 0, 0.0
    next_tokens = session.tokenize(text)
    for _ in range(n_tokens):
        logits = session.logits_after(next_tokens)
        finite = logits[np.isfinite(logits)]
        non_finite += logits.size - finite.size
        if not finite.size:
            break
        extremes += (float(finite.min()), float(finite.max()))
        saturated = max(saturated, float(np.mean(np.abs(finite) >= session.saturation)))
        best = int(np.nanargmax(logits))
        shares = np.exp(finite - finite.max(), dtype=np.float64)
        shares /= shares.sum()
        top_probability.append(round(float(shares.max()), 5))
        logs = np.log2(np.maximum(shares, 1e-300))  # 0 * log(0) counts as 0
        entropy.append(round(float(-(shares * logs).sum()), 4))
        if session.api.llama_vocab_is_eog(session.vocab, best):
            break
        tokens.append(best)
        next_tokens = [best]
    return {
        "tokens": tokens,
        "text": session.detokenize(tokens),
        "top_probability": top_probability,
        "entropy": entropy,
        "lowest": min(extremes, default=0.0),
        "highest": max(extremes, default=0.0),
        "non_finite": non_finite,
        "saturated": saturated,
    }


if __name__ == "__main__":
    main()
