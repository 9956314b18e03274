"""Open the config file in the user's editor."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Final

from g4cli.core.errors import UsageError
from g4cli.core.files import atomic_file, is_there
from g4cli.core.paths import config_path

TEMPLATE: Final = """\
# Settings of g4. `g4 config` shows them all and where each comes from.
# A name is that of an option: --top-p is top-p.

# [chat]                      # also [serve], [bench] and [fit]
# model = "e2b"
# ctx = "32k"
# temp = 0.7
# system = "Answer briefly."

# [aliases]                   # other names for models
# work = "31b:q4_0"

# [presets.reviewer]          # g4 chat @reviewer
# model = "work"
# system = "You review code. Name the worst problem first."
# temp = 0.2
"""


def edit_config() -> Path:
    """Let the user edit the config file, which is made if there is none; return its path.

    Raises UsageError if the editor cannot be started or fails.
    """
    path = config_path()
    if not is_there(path):
        with atomic_file(path, mode=0o600) as file:
            file.write(TEMPLATE.encode())
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        done = subprocess.run([*shlex.split(editor), str(path)], check=False)
    except (OSError, ValueError) as err:
        raise UsageError(
            f"the editor {editor} cannot be started", hint="EDITOR=nano g4 config edit"
        ) from err
    if done.returncode:
        raise UsageError(f"the editor {editor} ended with status {done.returncode}")
    return path
