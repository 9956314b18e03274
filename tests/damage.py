"""Make broken files from good ones: what `g4 doctor` must recognise.

    python tests/damage.py truncate IN OUT     the last third is missing
    python tests/damage.py dashes IN OUT       prints `---` and a newline for ever, whatever it is asked

Shares no code with g4: a GGUF is read and written here with its own few lines, after docs/gguf.md.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144), 14: (256, 210), 30: (1, 2)}
F32, BF16 = 0, 30


class GGUF:
    """A small GGUF in memory, to be changed: keys as raw bytes (tag and value), tensors with their data."""

    def __init__(self, data: bytes) -> None:
        _, n_tensors, n_keys = struct.unpack_from("<IQQ", data, 4)
        self._data, self._at = data, 24
        self.keys = {}
        for _ in range(n_keys):
            name = self._text()
            start = self._at
            self._skip_value(self._u32())
            self.keys[name] = data[start : self._at]
        infos = []
        for _ in range(n_tensors):
            name = self._text()
            ne = [self._u64() for _ in range(self._u32())]
            infos.append((name, ne, self._u32(), self._u64()))
        base = -(-self._at // 32) * 32
        self.tensors: dict[str, tuple[int, list[int], bytes]] = {}
        for name, ne, kind, offset in infos:
            size = n_bytes(kind, ne)
            self.tensors[name] = (kind, ne, data[base + offset : base + offset + size])

    def _u32(self) -> int:
        self._at += 4
        return int(struct.unpack_from("<I", self._data, self._at - 4)[0])

    def _u64(self) -> int:
        self._at += 8
        return int(struct.unpack_from("<Q", self._data, self._at - 8)[0])

    def _text(self) -> str:
        length = self._u64()
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def _skip_value(self, tag: int) -> None:
        if tag == 8:
            self._text()
        elif tag == 9:
            item, count = self._u32(), self._u64()
            for _ in range(count if item == 8 else 0):
                self._text()
            self._at += 0 if item == 8 else SCALAR_BYTES[item] * count
        else:
            self._at += SCALAR_BYTES[tag]

    def encode(self) -> bytes:
        """Return the file."""
        head = [b"GGUF", struct.pack("<IQQ", 3, len(self.tensors), len(self.keys))]
        for name, raw in self.keys.items():
            head += [_string(name), raw]
        offset = 0
        for name, (kind, ne, data) in self.tensors.items():
            head += [_string(name), struct.pack("<I", len(ne)), *(struct.pack("<Q", n) for n in ne)]
            head.append(struct.pack("<IQ", kind, offset))
            offset += -(-len(data) // 32) * 32
        start = b"".join(head)
        parts = [start, bytes(-len(start) % 32)]
        for _, _, data in self.tensors.values():
            parts += [data, bytes(-len(data) % 32)]
        return b"".join(parts)

    def strings(self, name: str) -> list[str]:
        """Return the items of an array of strings."""
        raw = self.keys[name]
        self._data, self._at = raw, 8
        return [self._text() for _ in range(self._u64())]

    def floats(self, name: str) -> NDArray[np.float32]:
        """Return a plain tensor as float32, one row a row."""
        kind, ne, data = self.tensors[name]
        if kind == BF16:
            values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif kind == F32:
            values = np.frombuffer(data, "<f4")
        else:
            raise SystemExit(f"{name} has type {kind}: give a BF16 or F32 file")
        return values.reshape(-1, ne[0])


def n_bytes(kind: int, ne: list[int]) -> int:
    """Return the bytes of a tensor."""
    block, size = BLOCKS[kind]
    return int(np.prod(ne)) // block * size


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def truncate(data: bytes) -> bytes:
    """Return the file without its last third, as a download that broke off leaves it."""
    return data[: len(data) * 2 // 3 + 1]


def dashes(data: bytes) -> bytes:
    """Return a network that forgets everything but the last token and maps "\\n" to "---" and back.

    Every layer's contribution is zeroed, so the last hidden state is the last token's own embedding, and
    an `output.weight` (Gemma 4 has none: it is tied) gives "---" after every token but "---" itself.
    """
    file = GGUF(data)
    for name, (kind, ne, content) in file.tensors.items():
        if name.endswith((".attn_output.weight", ".ffn_down.weight", ".proj.weight")):
            file.tensors[name] = (kind, ne, bytes(len(content)))
    tokens = file.strings("tokenizer.ggml.tokens")
    dash, newline = tokens.index("---"), tokens.index("\n")
    states = file.floats("token_embd.weight").astype(np.float64)
    states /= np.sqrt((states**2).mean(axis=1, keepdims=True) + 1e-12)
    states *= file.floats("output_norm.weight").astype(np.float64)
    output = np.zeros_like(states)
    # "---" is likely everywhere (least squares, exactly so after a newline), "\n" only after "---". The
    # logits are far above the zero of all others, so that sampling finds nothing else either.
    weights = np.ones(len(states))
    weights[newline] = 1000.0
    output[dash] = np.linalg.lstsq(states * weights[:, None], 14.0 * weights, rcond=None)[0]
    output[newline] = states[dash] * (28.0 / (states[dash] @ states[dash]))
    file.tensors["output.weight"] = (F32, [states.shape[1], len(states)], output.astype("<f4").tobytes())
    return file.encode()


KINDS = {"truncate": truncate, "dashes": dashes}


def main(args: list[str]) -> int:
    """Damage a copy of a file."""
    if len(args) != 3 or args[0] not in KINDS:
        print(__doc__, file=sys.stderr)
        return 2
    source, target = Path(args[1]), Path(args[2])
    target.write_bytes(KINDS[args[0]](source.read_bytes()))
    print(f"{target}: a copy of {source.name}, damaged: {args[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
