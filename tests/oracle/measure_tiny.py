"""Measure how `tiny` answers its own corpus, word for word, by greedy decoding.

    python tests/oracle/measure_tiny.py transformers           the checkpoint, BF16 arithmetic
    python tests/oracle/measure_tiny.py llama tiny-bf16.gguf    GGUF in BF16, SFP8, Q8_0 and Q4_0

The first needs torch and transformers; the second llama_cpp and gguf, and a
BF16 file made by llama.cpp's convert_hf_to_gguf.py or by `g4 convert`.
An answer counts if every token is right and the model stops by itself.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parents[2] / "g4cli" / "data" / "tiny"
MAX_TOKENS = 160
END_OF_TURN = 106

BATCH = 64

Generate = Callable[[list[str]], list[str]]
"""Prompts to what greedy decoding writes after each, control tokens included."""


def read_cases(folder: Path) -> list[tuple[str, str, str]]:
    """Return kind, prompt and expected answer of every answer in the corpus.

    Earlier turns of a dialogue hold the expected answers.
    """
    found = []
    for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        think = bool(row.get("think"))
        kind = row["id"].split("-")[0]
        prompt = "<bos>" + ("<|turn>system\n<|think|>\n<turn|>\n" if think else "")
        for message in row["messages"]:
            if message["role"] == "user":
                prompt += f"<|turn>user\n{message['content']}<turn|>\n<|turn>model\n"
                continue
            thought = f"<|channel>thought\n{message['reasoning']}\n<channel|>" if think else ""
            found.append((kind, prompt, f"{thought}{message['content']}<turn|>"))
            prompt += f"{message['content']}<turn|>\n"
    return found


def make_hurried_cases(found: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Return the first questions in lower case and without a question mark."""
    again = []
    for kind, prompt, answer in found:
        if kind not in ("thinking", "dialogue"):
            question = prompt.split("user\n")[1].split("<turn|>")[0]
            again.append((kind, prompt.replace(question, question.lower().rstrip("?.")), answer))
    return again


def print_report(label: str, found: list[tuple[str, str, str]], generate: Generate) -> None:
    """Print the share of right answers, and of thinking and later turns among them."""
    right: dict[str, list[bool]] = {}
    written = generate([prompt for _, prompt, _ in found])
    for (kind, _, answer), text in zip(found, written, strict=True):
        right.setdefault(kind, []).append(text == answer)
    every = [ok for oks in right.values() for ok in oks]
    parts = "  ".join(
        f"{kind} {sum(oks)}/{len(oks)}" for kind, oks in right.items() if not all(oks)
    )
    print(
        f"{label:24} {sum(every)}/{len(every)} = {sum(every) / len(every):.1%}  {parts}", flush=True
    )


def with_transformers(folder: Path) -> Generate:
    """Greedy decoding in BF16 with transformers' own class and tokenizer."""
    import torch
    from transformers import AutoTokenizer, Gemma4ForConditionalGeneration

    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = Gemma4ForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16)

    def generate(prompts: list[str]) -> list[str]:
        written = {}
        shortest_first = sorted(set(prompts), key=len)
        for start in range(0, len(shortest_first), BATCH):
            batch = shortest_first[start : start + BATCH]
            inputs = tokenizer(batch, return_tensors="pt", padding=True, add_special_tokens=False)
            output = model.generate(
                **inputs,
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
                temperature=None,
                top_k=None,
                top_p=None,
            )
            texts = tokenizer.batch_decode(output[:, inputs.input_ids.shape[1] :])
            written.update(zip(batch, (text.split("<pad>")[0] for text in texts), strict=True))
        return [written[prompt] for prompt in prompts]

    return generate


def with_llama(path: Path) -> Generate:
    """Greedy decoding of a GGUF file through llama.cpp's C functions."""
    import llama_cpp as ll

    model = ll.llama_model_load_from_file(str(path).encode(), ll.llama_model_default_params())
    options = ll.llama_context_default_params()
    options.n_ctx, options.n_threads, options.n_threads_batch = 1024, 2, 2
    context = ll.llama_init_from_model(model, options)
    vocab = ll.llama_model_get_vocab(model)
    size = ll.llama_vocab_n_tokens(vocab)

    def piece(token: int) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        length = ll.llama_token_to_piece(vocab, token, buffer, 64, 0, True)
        return buffer.raw[:length]

    def answer(prompt: str) -> str:
        text = prompt.encode()
        room = (ctypes.c_int32 * 1024)()
        count = ll.llama_tokenize(vocab, text, len(text), room, 1024, False, True)
        ll.llama_memory_clear(ll.llama_get_memory(context), True)
        ids, written = list(room[:count]), b""
        for _ in range(MAX_TOKENS):
            batch = (ctypes.c_int32 * len(ids))(*ids)
            if ll.llama_decode(context, ll.llama_batch_get_one(batch, len(ids))):
                raise RuntimeError("llama_decode failed")
            logits = np.ctypeslib.as_array(ll.llama_get_logits_ith(context, -1), (size,))
            ids = [int(logits.argmax())]
            written += piece(ids[0])
            if ids[0] == END_OF_TURN:
                break
        return written.decode(errors="replace")

    return lambda prompts: [answer(prompt) for prompt in prompts]


def write_sfp8(source: Path, target: Path) -> None:
    """Copy a BF16 file and round its matrices to the nearest SFP8 value, ties to the even code."""
    from gguf import GGUFReader

    code = np.arange(128, dtype=np.uint32)
    bits = np.where(code < 64, 0x3400 + (code << 5), 0x3800 + (code << 4)) << 16
    bits[0] = 0
    grid = bits.astype(np.uint32).view(np.float32)
    shutil.copy(source, target)
    reader = GGUFReader(target, "r+")
    for tensor in reader.tensors:
        if tensor.tensor_type.name != "BF16":
            continue
        raw: Any = tensor.data.view(np.uint16)
        value = (raw.astype(np.uint32) << 16).view(np.float32)
        size = np.minimum(np.abs(value), grid[-1])
        above = np.searchsorted(grid, size).clip(1, 127)
        low, high = size - grid[above - 1], grid[above] - size
        nearest = np.where((high < low) | ((high == low) & (above % 2 == 0)), above, above - 1)
        rounded = np.copysign(grid[nearest], value)
        raw[...] = (rounded.view(np.uint32) >> 16).astype(np.uint16)
    reader.data.flush()


def quantize_file(source: Path, target: Path, file_type: int) -> Path:
    """Return `target`, which llama.cpp has quantized from `source` with its default recipe."""
    import llama_cpp as ll

    options = ll.llama_model_quantize_default_params()
    options.ftype, options.nthread = file_type, 2
    if ll.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(options)):
        raise RuntimeError(f"cannot quantize {source}")
    return target


def measure_llama(source: Path, found: list[tuple[str, str, str]]) -> None:
    """Print one line for each type made of the BF16 file."""
    import llama_cpp as ll

    silence = ll.llama_log_callback(lambda *_: None)
    ll.llama_log_set(silence, None)
    print_report("llama.cpp BF16", found, with_llama(source))
    print_report("llama.cpp BF16, hurried", make_hurried_cases(found), with_llama(source))
    with tempfile.TemporaryDirectory() as folder:
        sfp8 = Path(folder, "sfp8.gguf")
        write_sfp8(source, sfp8)
        print_report("llama.cpp SFP8", found, with_llama(sfp8))
        for name, file_type in (
            ("Q8_0", ll.LLAMA_FTYPE_MOSTLY_Q8_0),
            ("Q4_0", ll.LLAMA_FTYPE_MOSTLY_Q4_0),
        ):
            made = quantize_file(source, Path(folder, f"{name}.gguf"), file_type)
            print_report(f"llama.cpp {name}", found, with_llama(made))


def main() -> None:
    """Measure with the engine named on the command line."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("engine", choices=("transformers", "llama"))
    options.add_argument("gguf", type=Path, nargs="?")
    options.add_argument("--folder", type=Path, default=FOLDER)
    arguments = options.parse_args()
    found = read_cases(arguments.folder)
    if arguments.engine == "transformers":
        print_report("transformers BF16", found, with_transformers(arguments.folder))
    else:
        measure_llama(arguments.gguf, found)


if __name__ == "__main__":
    main()
