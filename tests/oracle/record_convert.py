"""Record what llama.cpp's own converter makes of `tiny`, key by key and tensor by tensor.

    python tests/oracle/record_convert.py LLAMA_CPP [--keep FOLDER]

LLAMA_CPP is a checkout of llama.cpp, such as vendor/llama.cpp in the source
package of llama-cpp-python. Writes tests/golden/tiny_convert.json:

    {"BF16": {"keys": [{"name", "type", "value"}],
              "tensors": [{"name", "type", "shape", "sha256"}]},
     "F32": ...}

in the order of the file. `shape` is in GGUF order, row length first. An array
of more than 64 items stands there as {"count", "sha256"} of its JSON text
(no spaces, ASCII), so that any reader can compute the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gguf import GGUFReader, GGUFValueType

TESTS = Path(__file__).resolve().parents[1]
FOLDER = TESTS.parent / "g4cli" / "data" / "tiny"
GOLDEN = TESTS / "golden" / "tiny_convert.json"
TYPES = ("BF16", "F32")
LONGEST_ARRAY = 64


def convert_tiny(llama_cpp: Path, type_name: str, target: Path) -> None:
    """Run llama.cpp's converter on the bundled checkpoint."""
    script = str(llama_cpp / "convert_hf_to_gguf.py")
    options = ["--outtype", type_name.lower(), "--outfile", str(target)]
    subprocess.run([sys.executable, script, str(FOLDER), *options], check=True, capture_output=True)


def value_of(contents: Any) -> Any:
    """The value itself, or count and sha256 of a long array."""
    if not isinstance(contents, list) or len(contents) <= LONGEST_ARRAY:
        return contents
    text = json.dumps(contents, ensure_ascii=True, separators=(",", ":"))
    return {"count": len(contents), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def type_of(types: list[GGUFValueType]) -> str:
    """The name of a value type, such as `uint32` or `array[string]`."""
    names = [kind.name.lower() for kind in types]
    return f"array[{names[1]}]" if names[0] == "array" else names[0]


def contents_of(path: Path) -> dict[str, Any]:
    """Keys and tensors of a GGUF file in file order."""
    reader = GGUFReader(path)
    keys = [
        {"name": name, "type": type_of(field.types), "value": value_of(field.contents())}
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    ]
    tensors = [
        {
            "name": tensor.name,
            "type": tensor.tensor_type.name,
            "shape": [int(length) for length in tensor.shape],
            "sha256": hashlib.sha256(tensor.data.tobytes()).hexdigest(),
        }
        for tensor in reader.tensors
    ]
    return {"keys": keys, "tensors": tensors}


def main() -> None:
    """Convert to every type and write the golden file."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("llama_cpp", type=Path)
    options.add_argument("--keep", type=Path, help="folder in which the GGUF files stay")
    arguments = options.parse_args()
    recorded = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        for type_name in TYPES:
            target = folder / f"tiny-{type_name.lower()}.gguf"
            convert_tiny(arguments.llama_cpp, type_name, target)
            recorded[type_name] = contents_of(target)
    parts = []
    for type_name, contents in recorded.items():
        sections = []
        for section, rows in contents.items():
            lines = ",\n".join("   " + json.dumps(row) for row in rows)
            sections.append(f'  "{section}": [\n{lines}\n  ]')
        parts.append(f' "{type_name}": {{\n' + ",\n".join(sections) + "\n }")
    GOLDEN.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    for type_name, contents in recorded.items():
        print(type_name, len(contents["keys"]), "keys", len(contents["tensors"]), "tensors")


if __name__ == "__main__":
    main()
