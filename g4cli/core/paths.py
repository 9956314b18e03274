"""Every directory and environment variable that g4 reads, in one table.

G4_HOME           one folder for everything below (overrides the three XDG places)
XDG_DATA_HOME     models and their manifests          ~/.local/share/g4
XDG_CACHE_HOME    expanded files, probe results       ~/.cache/g4
XDG_STATE_HOME    chat history and saved chats        ~/.local/state/g4
HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE   read by huggingface_hub
G4_DEBUG          1: tracebacks also for expected errors
NO_COLOR, COLUMNS, TERM                                        read by rich
"""

from __future__ import annotations

import os
from pathlib import Path


def data_dir() -> Path:
    """Return the folder of models and manifests (not created)."""
    return _home("data")


def models_dir() -> Path:
    """Return the folder that holds one sub-folder per pulled model (not created)."""
    return data_dir() / "models"


def cache_dir() -> Path:
    """Return the folder of what can be made again: probe results, expanded SFP8 files (not created)."""
    return _home("cache")


def state_dir() -> Path:
    """Return the folder of the line history and saved chats (not created)."""
    return _home("state")


def tiny_dir() -> Path:
    """Return the folder of the bundled checkpoint."""
    return Path(__file__).resolve().parents[1] / "data" / "tiny"


def debug() -> bool:
    """Return whether G4_DEBUG asks for tracebacks."""
    return os.environ.get("G4_DEBUG", "") not in ("", "0")


def _home(kind: str) -> Path:
    override = os.environ.get("G4_HOME")
    if override:
        return Path(override).expanduser() / kind
    # platformdirs costs a millisecond and knows macOS; imported here so that `--help` does not pay.
    import platformdirs

    return Path(
        {
            "data": platformdirs.user_data_dir,
            "cache": platformdirs.user_cache_dir,
            "state": platformdirs.user_state_dir,
        }[kind]("g4", appauthor=False)
    )
