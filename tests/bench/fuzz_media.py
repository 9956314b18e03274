"""Fuzz g4 with mutated images, audio and grammars, and llama.cpp with those that g4 accepts.

    python tests/bench/fuzz_media.py [SECONDS] [SEED]

Each file must be read or refused (BadMedia, UsageError) in less than a second, and those that are
accepted must not crash this process, whose memory is limited to 4 GiB. The current case is stored
in CASE, to be examined after a crash.
"""

from __future__ import annotations

import ctypes
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from g4cli.core.errors import G4Error
from g4cli.core.media_file import media_kind_of, read_media
from g4cli.prompt.answer_grammar import AnswerForm, make_grammar
from g4cli.runtime.engine.llama_engine import LlamaEngine, open_engine
from g4cli.runtime.engine.model import ModelOptions
from g4cli.runtime.engine.options import ContextOptions, MediaOptions
from g4cli.runtime.llama.library import load_mtmd
from tests.support.builders.media_files import bmp, flac, gif, jpeg, mp3, picture, png, sound, wav
from tests.support.builders.tiny_file import build_tiny

CASE = Path(tempfile.gettempdir()) / "fuzz_media_case"
FILES = (
    png(picture(40, 30)), bmp(picture(40, 30)), gif(40, 30), jpeg(40, 30), jpeg(40, 30, frame=0xC2),
    wav(sound(4000)), flac(2), mp3(20), mp3(20, xing=20), b"ID3\4\0\0\0\0\0\0" + flac(2),
)  # fmt: skip
PIECES = (
    '"a"',
    "[a-z]",
    "(",
    ")",
    "|",
    "*",
    "+",
    "?",
    "{2}",
    "{0,30}",
    ".",
    "b",
    "c",
    "\n",
    " ",
    '""',
    "<[3]>",
)


def mutate_file(r: random.Random) -> bytes:
    """Return a file with some bytes of its head changed, and perhaps cut."""
    data = bytearray(r.choice(FILES))
    for _ in range(r.randint(1, 5)):
        at = r.randrange(min(len(data), r.choice((30, 120, 10**6))))
        data[at] = r.choice((0, 1, 0x7F, 0x80, 0xFF, r.randrange(256)))
    return bytes(data[: r.randrange(len(data) + 1)] if r.random() < 0.1 else data)


def try_media(engine: LlamaEngine, r: random.Random) -> str:
    """Return the outcome for one file."""
    assert engine.prompts.media is not None
    data = mutate_file(r)
    CASE.write_bytes(data)
    data, header = read_media(CASE, media_kind_of(data) or "image", inflate=True)
    start = ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8))
    c = load_mtmd()
    bitmap = c.mtmd_helper_bitmap_init_from_buf(
        engine.prompts.media._handle, start, len(data), False
    )
    if bitmap:
        c.mtmd_bitmap_free(bitmap)
    return f"{header.format} {'decoded' if bitmap else 'refused by llama.cpp'}"


def try_grammar(engine: LlamaEngine, r: random.Random) -> str:
    """Return the outcome for one grammar."""
    rules = ["".join(r.choices(PIECES, k=r.randint(1, 15))) for _ in range(3)]
    grammar = "\n".join(
        f"{name} ::= {rule}" for name, rule in zip(("root", "b", "c"), rules, strict=True)
    )
    CASE.write_text(grammar)
    fault = engine.masks.find_fault(make_grammar(AnswerForm("gbnf", grammar)))
    if fault:
        return "grammar refused by llguidance"
    return "grammar parsed"


def main(seconds: float, seed: int) -> int:
    """Return 1 if a case took too long."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
    r, seen, slow = random.Random(seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / "tiny.gguf"
        tiny.write_bytes(build_tiny())
        with open_engine(
            tiny, model_options=ModelOptions(), context_options=ContextOptions(n_ctx=256)
        ) as engine:
            engine.attach_media(
                MediaOptions(Path(__file__).parents[1] / "golden" / "tiny_mmproj.gguf")
            )
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                started = time.monotonic()
                try:
                    seen[(try_media if r.random() < 0.7 else try_grammar)(engine, r)] += 1
                except G4Error as err:
                    seen[err.reference] += 1
                if time.monotonic() - started > 1:
                    slow += 1
                    print("slow:", CASE.read_bytes()[:200])
    print(f"{sum(seen.values())} cases, seed {seed}, {slow} slow:", dict(seen.most_common()))
    return bool(slow)


if __name__ == "__main__":
    sys.exit(main(float((sys.argv[1:] or ["60"])[0]), int((sys.argv[2:] or ["1"])[0])))
