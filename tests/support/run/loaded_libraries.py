"""Print the libraries of llama.cpp that a process has loaded which uses its devices."""

from __future__ import annotations

from pathlib import Path

from g4cli.runtime.llama.devices import list_devices

if __name__ == "__main__":
    list_devices()
    maps = Path("/proc/self/maps").read_text().splitlines()
    print(*sorted({line.split()[-1] for line in maps if "libggml" in line}), sep="\n")
