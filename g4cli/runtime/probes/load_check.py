"""Whether llama.cpp survives loading a file: tried in a child process, remembered by path, size and time.

llama.cpp ends the process (abort, segmentation fault) on some files that are structurally valid. The
terminal, with the user's conversation, must not end with it.

    python -m g4cli.runtime.probes.load_check FILE [0|1 [MMPROJ|- [DRAFT]]]

loads, evaluates one token, encodes a grey square, drafts a token, and exits with 0; else says why and exits
with 1.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import Final

from g4cli.core.child import run_child
from g4cli.core.errors import BadFile, G4Error, NoMemory, RuntimeFailed
from g4cli.core.paths import cache_dir
from g4cli.core.quoting import shell_word
from g4cli.core.records import read_record, write_record
from g4cli.runtime.llama.library import build_info, failed
from g4cli.runtime.probes.kernels import exit_text

_TIMEOUT_S: Final = 1800  # a 60 GB file from a slow disk
_REMEMBERED: Final = 500


def is_known(
    path: Path,
    *,
    use_extra_bufts: bool = True,
    mmproj: Path | None = None,
    draft: Path | None = None,
) -> bool:
    """Return whether this very file (with this encoder or drafter) has loaded before with this library."""
    return _key(path, use_extra_bufts, mmproj, draft) in _recall(_store())


def check_load(
    path: Path,
    *,
    use_extra_bufts: bool = True,
    mmproj: Path | None = None,
    draft: Path | None = None,
) -> None:
    """Load the file (and its encoder of images and sound, or its drafter) in a child; remember success.

    Raises RuntimeFailed with llama.cpp's reason if it refuses the file, BadFile if it dies of it, NoMemory if
    the system kills it.
    """
    files = [str(mmproj or "-"), *([str(draft)] if draft else [])]
    seen, status = run_child(
        "g4cli.runtime.probes.load_check",
        [str(path), str(int(use_extra_bufts)), *files],
        timeout_s=_TIMEOUT_S,
    )
    if seen.timed_out:
        raise RuntimeFailed(
            f"llama.cpp did not finish loading {path} in {_TIMEOUT_S} s",
            hint=f"g4 doctor {shell_word(path)}",
        )
    if status == 0:
        # Oldest first; the list must not grow for ever.
        kept = [*_recall(_store()), _key(path, use_extra_bufts, mmproj, draft)][-_REMEMBERED:]
        write_record(_store(), kept)
        return
    said, blamed = _last_line(seen.stderr), draft or mmproj or path
    if status == 1:
        raise RuntimeFailed(
            said or f"llama.cpp cannot load {blamed}", hint=f"g4 doctor {shell_word(blamed)}"
        )
    if status == -signal.SIGKILL:  # nobody but the kernel's memory killer sends it
        raise NoMemory(
            f"the system ended the load of {path}: not enough memory",
            hint=f"g4 fit {shell_word(path)} shows what fits",
        )
    raise BadFile(
        f"{blamed}: llama.cpp dies of this file ({exit_text(status)})"
        + (f": {said}" if said else ""),
        hint=f"g4 doctor {shell_word(blamed)}",
    )


def _store() -> Path:
    return cache_dir() / "loaded.json"


def _key(path: Path, use_extra_bufts: bool, mmproj: Path | None, draft: Path | None) -> str:
    parts = [str(use_extra_bufts), build_info().fingerprint]
    for file in filter(None, (path, mmproj, draft)):
        stat = file.stat()
        parts += [str(file.resolve()), str(stat.st_size), str(stat.st_mtime_ns)]
    return hashlib.sha256(os.fsencode("\n".join(parts))).hexdigest()


def _recall(store: Path) -> list[str]:
    saved = read_record(store)
    return [str(item) for item in saved] if isinstance(saved, list) else []


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # ggml's own assertion comes before its stack trace.
    asserted = [line for line in lines if "GGML_ASSERT" in line or "error:" in line.lower()]
    chosen = (asserted or lines)[-1:] or [""]
    return chosen[0].removeprefix("error: ")[:400]


def main(
    path: Path, use_extra_bufts: bool, mmproj: Path | None = None, draft: Path | None = None
) -> int:
    """Return 0 if the file loads and evaluates one token, else 1 with the reason on standard error."""
    from g4cli.runtime.engine.context import Context, ContextOptions
    from g4cli.runtime.engine.model import Model, ModelOptions
    from g4cli.runtime.llama.interrupt import Interrupt

    try:
        model = Model(path, ModelOptions(use_extra_bufts=use_extra_bufts))
        context = Context(model, ContextOptions(n_ctx=512), Interrupt())
        token = max(model.bos, 0)
        context.decode_one(token)
        if draft:
            from g4cli.runtime.engine.drafter import Drafter

            drafter = Drafter(draft, context, ModelOptions(use_extra_bufts=use_extra_bufts))
            context.decode_one(token)
            if not drafter.guess(token, 1, 1):
                raise failed(f"{draft} drafts nothing")
            drafter.close()
        context.close()
        if mmproj:
            from g4cli.runtime.engine.media import MediaEncoder, MediaOptions

            encoder = MediaEncoder(model, MediaOptions(mmproj))
            encoder.rehearse()
            encoder.close()
        model.close()
    except G4Error as err:
        print(f"error: {err.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    _files = [None if name == "-" else Path(name) for name in sys.argv[3:]]
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:3] != ["0"], *_files))
