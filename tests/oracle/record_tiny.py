"""Record what transformers makes of `tiny`: tokens and logits for the default tests.

    python tests/oracle/record_tiny.py

writes tests/golden/tiny_tokens.json, a list of {"text", "ids"} by Hugging
Face's tokenizer without an added BOS, and tests/golden/tiny_logits.npz with
`ids_N` (positions) and `logits_N` (positions, vocabulary) in F32: the BF16
checkpoint loaded as F32, one logit row for each position of prompt N.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, Gemma4ForConditionalGeneration

TESTS = Path(__file__).resolve().parents[1]
FOLDER = TESTS.parent / "g4cli" / "data" / "tiny"
GOLDEN = TESTS / "golden"

PROMPTS = (
    "<bos><|turn>user\nWhat is Q4_0?<turn|>\n<|turn>model\nQ4_0 is a 4-bit format",
    "<bos><|turn>user\nHello<turn|>\n<|turn>model\n",
    "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\nIs a row of 128 good for "
    "K-quants?<turn|>\n"
    "<|turn>model\n<|channel>thought\n",
    "<bos>The quick brown fox jumps over 13 lazy dogs.\n\n\tprint('\u00e9\u20ac')",
    "<bos><|turn>user\nWhat is E2B?<turn|>\n<|turn>model\nE2B is the smallest<turn|>\n"
    "<|turn>user\nAnd its context length?<turn|>\n<|turn>model\n",
    "<bos>" + "---\n" * 12,
)

ODD_TEXTS = (
    "",
    " ",
    "  ",
    "   x",
    " x",
    "x ",
    "x  y   z",
    "\n",
    "\n\n",
    "a\n\nb",
    "a\n \nb",
    " \n \n",
    "\n" * 31,
    "\n" * 32,
    "\n" * 70,
    " " * 31,
    " " * 32,
    " " * 70,
    "\t",
    "\t\tx",
    "line one\r\nline two\r\n",
    "---\n---\n",
    "1234567890",
    "3.14 and 2,718",
    "Hello, World! What's up? I'll go; you'd stay.",
    'def main() -> None:\n    print(f"{x!r:>10}")\n    return 0\n',
    "for (int i = 0; i < n; ++i) { sum += a[i] & 0xFF; }",
    '{"key": [1, 2.5e-3, null, true]}',
    "SELECT * FROM t WHERE a <> 'b' -- comment",
    "<table><tr><td>cell</td></tr></table>",
    "<strong>bold</strong> and </s>",
    "<0x0A> is not a newline",
    "<unused7> is not special",
    "h\u00e9llo w\u00f6rld \u2014 \u201cquoted\u201d",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8",
    "\u0440\u0443\u0441\u0441\u043a\u0438\u0439",
    "\U0001f600 \U0001f469\u200d\U0001f4bb \U0001f1e9\U0001f1ea",
    "e\u0301 is two code points",
    "\u2581\u2581 lower one eighth block",
    "\u00a0no-break\u00a0space\u3000",
    "zero\u200bwidth",
    "<bos>twice<bos>",
    "<|turn>user\nHi<turn|>\n<|turn>model\n",
    "<|turn> user",
    "<|channel>thought\nhm\n<channel|>ok<turn|>",
    '<|tool_call>call:f{a:<|"|>x<|"|>}<tool_call|>',
    "<|tool_response>response:f{value:1}<tool_response|>",
    "<|think|><|thinking|><think>",
    "<pad><eos><unk><mask>",
    "<|turn><|turn><turn|",
)


def sample_texts(folder: Path) -> list[str]:
    """Every 40th question and answer of the corpus."""
    rows = [
        json.loads(line)
        for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return [message["content"] for row in rows[::40] for message in row["messages"]]


def main() -> None:
    """Write both golden files."""
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)

    def ids_of(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    texts = [*ODD_TEXTS, *PROMPTS, *sample_texts(FOLDER)]
    lines = [json.dumps({"text": text, "ids": ids_of(text)}) for text in texts]
    (GOLDEN / "tiny_tokens.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")

    model = Gemma4ForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32)
    arrays = {}
    for number, prompt in enumerate(PROMPTS):
        ids = ids_of(prompt)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        arrays[f"ids_{number}"] = np.array(ids, dtype=np.int32)
        arrays[f"logits_{number}"] = logits.numpy().astype(np.float32)
    np.savez_compressed(GOLDEN / "tiny_logits.npz", **arrays)
    positions = sum(len(array) for name, array in arrays.items() if name.startswith("ids"))
    print(f"{len(texts)} texts, {len(PROMPTS)} prompts with {positions} positions")


if __name__ == "__main__":
    main()
