"""Files are whole or not there, when the kernel refuses a write and after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from g4cli.core.files import (
    atomic_file,
)


def test_a_write_that_the_system_refuses_is_no_space(tmp_path: Path) -> None:
    # A real refusal by the kernel, without root: the process may write 64 KiB per file.
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from g4cli.core.files import atomic_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "with atomic_file(Path(sys.argv[1])) as file:\n"
        "    for _ in range(100): file.write(bytes(4096))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m.gguf"], capture_output=True, text=True
    )
    assert "NoSpace" in done.stderr
    assert "does not support files of this size" in done.stderr
    assert os.listdir(tmp_path) == []


KILLED = """
import os, sys
from pathlib import Path
from g4cli.core.files import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    os.kill(os.getpid(), 9)
"""


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    target = tmp_path / "model[1].gguf"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", KILLED, target], check=False)
        assert len(os.listdir(tmp_path)) == 1  # the second one removed the first one's
    other = tmp_path / ".other.gguf.abcdefgh.tmp"
    other.write_bytes(b"")
    with atomic_file(target):
        assert len(os.listdir(tmp_path)) == 2
        with atomic_file(target):  # a second writer: the first one's file is in use
            pass
        assert len(os.listdir(tmp_path)) == 3
    assert sorted(os.listdir(tmp_path)) == [other.name, target.name]
