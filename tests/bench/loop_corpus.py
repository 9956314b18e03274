"""The benchmark of the loop detector: real documents of this machine, hard texts, and loops.

Token ids are those of Gemma 4's vocabulary. A seed determines all random choices; the halves `tune`
and `held-out` have different seeds and different documents.
"""

from __future__ import annotations

import base64
import ctypes
import gzip
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from loop_hard import hard_documents
from loop_hard_more import more_hard_documents
from loop_long import long_loops

from g4cli.runtime.llama.library import load_llama

VOCAB = Path(__file__).resolve().parents[3] / "shared/data/gemma4-vocab/ggml-vocab-gemma-4.gguf"
TOKENS = 2000  # of a real document
# kind, root, patterns
PLACES = (
    ("python", Path(sys.base_prefix) / "lib", "*.py"),
    ("python", Path(sys.prefix) / "lib", "*.py"),
    ("c header", Path("/usr/include"), "*.h"),
    ("c++", Path("/usr/include/c++"), "*"),
    ("markdown", Path("/usr"), "*.md"),
    ("rst", Path("/usr"), "*.rst"),
    ("html", Path("/usr"), "*.html"),
    ("json", Path("/usr"), "*.json"),
    ("yaml", Path("/usr"), "*.yaml"),
    ("javascript", Path("/usr"), "*.js"),
    ("css", Path("/usr"), "*.css"),
    ("licence", Path("/usr/share/doc"), "copyright"),
    ("text", Path("/usr"), "*.txt"),
    ("perl", Path("/usr"), "*.p[lm]"),
    ("shell", Path("/usr"), "*.sh"),
    ("xml", Path("/usr"), "*.xml"),
)
# Ends of names, of documents of the second set; "1.gz" are pages of the manual, as they are
# written.
MORE = (
    "py", "pyi", "c", "h", "cpp", "cu", "cuh", "js", "ts", "json", "xml", "md", "txt", "html",
    "css", "sh",
    "pl", "pm", "rst", "yaml", "jinja", "csv", "patch", "diff", "pem", "svg", "conf", "cmake", "m4",
    "tcl",
    "vim", "toml", "go", "po", "el", "tex", "java", "copyright", "1.gz", "3.gz", "7.gz",
)  # fmt: skip


class Document(NamedTuple):
    """A stream of ids and what it is; `onset` is where a loop begins (-1: there is none)."""

    kind: str
    tokens: list[int]
    onset: int = -1


class Tokenizer:
    """Gemma 4's vocabulary in llama.cpp."""

    def __init__(self) -> None:
        self.api: Any = load_llama()
        params = self.api.llama_model_default_params()
        params.vocab_only = True
        self._model = self.api.llama_model_load_from_file(str(VOCAB).encode(), params)
        self.vocab = self.api.llama_model_get_vocab(self._model)

    def encode(self, text: str) -> list[int]:
        data = text.encode()
        room = len(data) + 8
        tokens = (ctypes.c_int32 * room)()
        return tokens[
            : self.api.llama_tokenize(self.vocab, data, len(data), tokens, room, False, False)
        ]

    def pieces(self) -> list[str]:
        """Return the text of every token, spaces as U+2581."""
        n = self.api.llama_vocab_n_tokens(self.vocab)
        return [
            self.api.llama_vocab_get_text(self.vocab, i).decode("utf-8", "replace")
            for i in range(n)
        ]


def real_documents(
    tokenizer: Tokenizer, seed: int, per_kind: int, sources: Path | None
) -> Iterator[Document]:
    """Yield documents of this machine, at most 2,000 tokens each; `sources` adds C++, CUDA and
    Markdown.
    """
    more = (
        [("c++, cuda", sources, "*.c[uop]*"), ("project markdown", sources, "*.md")]
        if sources
        else []
    )
    for kind, root, pattern in (*PLACES, *more):
        r = random.Random(f"{seed}/{kind}/{root}")
        # The halves of tune and held-out do not share a file.
        paths = [p for p in _files(root, pattern) if hash_of(p) % 2 == seed % 2]
        r.shuffle(paths)
        taken = 0
        for path in paths:
            if taken == per_kind:
                break
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            if len(text) < 1500:
                continue
            start = r.randrange(max(1, len(text) - 6000)) if r.random() < 0.5 else 0
            taken += 1
            yield Document(kind, tokenizer.encode(text[start : start + 12000])[:TOKENS])


def more_documents(
    tokenizer: Tokenizer, seed: int, per_kind: int, sources: Path | None
) -> Iterator[Document]:
    """Yield documents of 500 to 4,000 tokens of many more kinds, and dumps of programs."""
    found: dict[str, list[Path]] = {end: [] for end in MORE}
    for root in filter(None, ("/usr", sys.base_prefix, sys.prefix, sources)):
        for folder, _, names in os.walk(root):
            for name in names:
                end = next(
                    (e for e in (name, name.rpartition(".")[2], name[-4:]) if e in found), None
                )
                path = Path(folder, name)
                if end and hash_of(path) % 2 == seed % 2 and not path.is_symlink():
                    found[end].append(path)
    for end, paths in found.items():
        r, taken = random.Random(f"{seed}/more/{end}"), 0
        for path in r.sample(sorted(paths), min(len(paths), 4 * per_kind)):
            text = (
                _text(path) if taken < per_kind and 1000 < path.stat().st_size < 2_000_000 else ""
            )
            n, start = r.randint(500, 4000), r.choice([0, r.randrange(max(1, len(text) - 6000))])
            if len(text) > 1500:
                taken += 1
                yield Document(end, tokenizer.encode(text[start : start + 6 * n])[:n])
    programs = sorted(
        p for p in Path("/usr/bin").iterdir() if p.is_file() and p.stat().st_size > 30_000
    )
    r = random.Random(f"{seed}/programs")
    for path in r.sample(programs, min(len(programs), per_kind)):
        start, data = r.randrange(20_000), path.read_bytes()
        rows = [f"{i:08x}: {data[i : i + 16].hex(' ', 2)}" for i in range(start, start + 1600, 16)]
        yield Document("hexdump", tokenizer.encode("\n".join(rows)))
        yield Document(
            "base64", tokenizer.encode(base64.encodebytes(data[start : start + 2000]).decode())
        )


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError):
        return ""


def hash_of(path: Path) -> int:
    """Return a number that depends on the path alone."""
    return sum(ord(c) * (i + 1) for i, c in enumerate(str(path)))


def _files(root: Path, pattern: str) -> list[Path]:
    found = []
    for path in root.rglob(pattern):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 2_000_000:
            found.append(path)
    return sorted(found)


def loops(
    tokenizer: Tokenizer, real: list[Document], seed: int, per_kind: int
) -> Iterator[Document]:
    """Yield loops behind real beginnings of 0 to 600 tokens."""
    r = random.Random(f"{seed}/loops")
    text = [d.tokens for d in real]

    def prefix() -> list[int]:
        source = r.choice(text)
        return source[: r.choice([0, 20, 150, 300, 600])]

    def span(n: int) -> list[int]:
        source = r.choice([t for t in text if len(t) > n + 10])
        at = r.randrange(len(source) - n)
        return source[at : at + n]

    def noisy(tokens: list[int], rate: float, how: str) -> list[int]:
        out = []
        for token in tokens:
            if r.random() < rate:
                act = r.choice(["swap", "drop", "add"]) if how == "any" else how
                if act == "drop":
                    continue
                out.append(r.choice(r.choice(text)))
                if act == "add":
                    out.append(token)
            else:
                out.append(token)
        return out

    for _ in range(per_kind):
        for kind, low, high in PERIODS:
            n = min(r.randint(low, high), 1900)
            start = prefix()
            yield Document(f"exact {kind}", start + span(n) * max(4, 400 // n + 1), len(start))
        start = prefix()
        yield Document("dashes", start + tokenizer.encode("---\n") * 200, len(start))
        phrase = tokenizer.encode(r.choice(PHRASES))
        start = prefix()
        yield Document("exact phrase", start + phrase * (400 // len(phrase) + 1), len(start))
        for how in ("swap", "any"):
            for rate in (0.01, 0.02, 0.03):
                n = r.choice([2, 3, 5, 8, 12, 20, 40, 80, 120])
                start = prefix()
                body = noisy(span(n) * (max(500, 8 * n) // n), rate, how)
                yield Document(f"noise {how} {rate:.0%}", start + body, len(start))
        start = prefix()
        template = r.choice(COUNTERS)
        first = r.choice([1, 1, 1, 90, 990])
        body = tokenizer.encode("".join(template.format(first + k) for k in range(400)))[:1400]
        yield Document("counter", start + body, len(start))
        start = prefix()
        few = r.sample(r.choice(text), r.choice([2, 3, 3, 4]))
        yield Document("few tokens", start + [r.choice(few) for _ in range(450)], len(start))


PERIODS = (
    ("1 token", 1, 1), ("2-4", 2, 4), ("5-30", 5, 30), ("31-63", 31, 63), ("64-150", 64, 150),
    ("200-400", 200, 400), ("600-2048", 600, 2048),
)  # fmt: skip
PHRASES = (
    "I am sorry, but I cannot help with that.\n", "the the ", "own ", "The answer is 4. ", "\n\n",
    " ",
    "```\n", "<unused49>", "1. ", "and so on, ", "Wait, let me think again. ", "- \n", "0", "!",
    "...",
    "| | |\n", "</div>\n", "GGGG", "\\n", "\t", "No. No. ",
    "I think the answer is 5. Actually, let me check. ",
)  # fmt: skip
COUNTERS = (
    "Step {}: repeat\n", "{}. Go to step {}.\n", "Line {}\n", "Item {}: the same thing again.\n",
    "Attempt {} failed, trying again.\n", "### Part {}\n\nTo be continued.\n\n",
    "{{\"id\": {}, \"v\": 0}},\n",
    "var x{} = 0;\n", "({}) I repeat myself.\n", "Chapter {}: The Door\n", "{}\n\nWait. ",
    "test_{} = None\n",
)  # fmt: skip
COUNTERS = tuple(c.replace("{}. Go to step {}.", "{0}. Go to step {0}.") for c in COUNTERS)


def corpus(
    seed: int,
    sources: Path | None = None,
    *,
    real_per_kind: int = 36,
    per_kind: int = 10,
    loops_per_kind: int = 30,
) -> dict[str, list[Document]]:
    """Return the first set's documents of one half: real, hard, loops."""
    tokenizer = Tokenizer()
    real = list(real_documents(tokenizer, seed, real_per_kind, sources))
    hard = [Document(kind, tokenizer.encode(text)) for kind, text in hard_documents(seed, per_kind)]
    return {"real": real, "hard": hard, "loops": list(loops(tokenizer, real, seed, loops_per_kind))}


def more_corpus(
    seed: int,
    sources: Path | None = None,
    *,
    real_per_kind: int = 30,
    per_kind: int = 8,
    loops_per_kind: int = 8,
) -> dict[str, list[Document]]:
    """Return the second set's: longer documents, other hard kinds, longer loops and harder ones."""
    tokenizer = Tokenizer()
    real = list(more_documents(tokenizer, seed, real_per_kind, sources))
    hard = [
        Document(kind, tokenizer.encode(text)) for kind, text in more_hard_documents(seed, per_kind)
    ]
    found: dict[str, list[Document]] = {"real": real, "hard": hard, "loops": [], "harder": []}
    tokens = [d.tokens for d in real]
    for part, kind, stream, onset in long_loops(tokenizer.encode, tokens, seed, loops_per_kind):
        found["loops" if part == "asked" else "harder"].append(Document(kind, stream, onset))
    return found
