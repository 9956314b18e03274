"""Every directory and environment variable that g4 reads, in one table."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

_PATH_MAX: Final = 4096  # <linux/limits.h>

# Name, meaning, default. docs/reference/environment.md is generated from this table.
ENVIRONMENT: Final[tuple[tuple[str, str, str], ...]] = (
    ("G4_HOME", "One folder for models, cache and state; overrides the three XDG folders.", ""),
    ("XDG_DATA_HOME", "Models and their manifests.", "~/.local/share/g4"),
    (
        "XDG_CACHE_HOME",
        "Probe results, expanded SFP8 files, saved states, importance matrices.",
        "~/.cache/g4",
    ),
    ("XDG_STATE_HOME", "Line history and saved conversations.", "~/.local/state/g4"),
    ("XDG_CONFIG_HOME", "The config file.", "~/.config/g4"),
    (
        "G4_MODEL, G4_CTX, G4_TEMP, ...",
        "Defaults of options; see [settings](../guide/settings.md).",
        "",
    ),
    ("EDITOR, VISUAL", "The editor of `g4 config edit`.", "vi"),
    ("HF_HOME, HF_HUB_CACHE", "The Hugging Face cache.", "~/.cache/huggingface/hub"),
    ("HF_ENDPOINT", "The hub, or a mirror of it.", "https://huggingface.co"),
    ("HF_TOKEN", "The token for gated repositories.", "that of `hf auth login`"),
    ("HF_HUB_OFFLINE", "1: do not use the network.", ""),
    ("OPENAI_API_KEY, GEMINI_API_KEY", "The keys of api.openai.com and of Google's AI Studio.", ""),
    ("HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY", "The proxy for downloads.", ""),
    ("SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE", "Certificates to trust.", "the system's"),
    ("OLLAMA_MODELS", "Ollama's models.", "~/.ollama/models"),
    ("LLAMA_CACHE", "llama.cpp's downloads.", "~/.cache/llama.cpp"),
    ("G4_FORCE_THREADS", "1: allow more --threads than logical cores.", ""),
    ("G4_DEBUG", "1: show tracebacks for expected errors too.", ""),
    ("NO_COLOR, COLUMNS, TERM", "Colors and width of the terminal.", ""),
)


def data_dir() -> Path:
    """Return the folder of models and their manifests (not created)."""
    return _home_folder("data")


def models_dir() -> Path:
    """Return the folder that holds one sub-folder per pulled model (not created)."""
    return data_dir() / "models"


def cache_dir() -> Path:
    """Return the folder of what g4 can make again: see XDG_CACHE_HOME above (not created)."""
    return _home_folder("cache")


def state_dir() -> Path:
    """Return the folder of the line history and saved chats (not created)."""
    return _home_folder("state")


def config_path() -> Path:
    """Return the path of the config file; it may not exist."""
    override = os.environ.get("G4_HOME")
    if override:
        return expand_home(override) / "config.toml"
    import platformdirs

    return Path(platformdirs.user_config_dir("g4", appauthor=False)) / "config.toml"


def tiny_dir() -> Path:
    """Return the folder of the bundled checkpoint."""
    return Path(__file__).resolve().parents[1] / "data" / "tiny"


def calibration_path() -> Path:
    """Return the path of the bundled calibration text."""
    return Path(__file__).resolve().parents[1] / "data" / "calibration" / "text.jsonl"


def hub_cache_dir() -> Path:
    """Return the Hugging Face cache, as huggingface_hub finds it (not created)."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return _expand_path(os.environ[name])
    home = os.environ.get("HF_HOME")
    return (_expand_path(home) if home else _user_cache() / "huggingface") / "hub"


def lm_studio_dirs() -> tuple[Path, ...]:
    """Return where LM Studio keeps models, newest convention first (not created).

    A file in the user's home names LM Studio's folder; older versions use the cache folder.
    """
    homes = [expand_home("~/.lmstudio")]
    with suppress(OSError, ValueError):
        pointer = expand_home("~/.lmstudio-home-pointer").read_text()[:_PATH_MAX].strip()
        if os.path.isabs(pointer):
            homes.insert(0, Path(pointer))
    homes.append(_user_cache() / "lm-studio")
    return tuple(dict.fromkeys(home / "models" for home in homes))


def ollama_dirs() -> tuple[Path, ...]:
    """Return where Ollama keeps models: the user's folder, then the Linux service's."""
    own = os.environ.get("OLLAMA_MODELS")
    if own:
        return (_expand_path(own),)
    return (expand_home("~/.ollama/models"), Path("/usr/share/ollama/.ollama/models"))


def llama_cpp_dir() -> Path:
    """Return the folder of llama.cpp's own downloads."""
    own = os.environ.get("LLAMA_CACHE")
    return _expand_path(own) if own else _user_cache() / "llama.cpp"


def expand_home(path: Path | str) -> Path:
    """Return `path` with a home folder in the place of ~ or ~NAME, as it is if there is none.

    `Path.expanduser` raises RuntimeError for the name of no user, such as "~5 minutes".
    """
    with suppress(ValueError):  # a null byte, or what the encoding of names lacks
        return Path(os.path.expanduser(path))
    return Path(path)


def wants_tracebacks() -> bool:
    """Return whether G4_DEBUG asks for tracebacks."""
    return os.environ.get("G4_DEBUG", "") not in ("", "0")


def _expand_path(text: str) -> Path:
    return expand_home(os.path.expandvars(text))


def _user_cache() -> Path:
    return _expand_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


def _home_folder(kind: Literal["data", "cache", "state"]) -> Path:
    override = os.environ.get("G4_HOME")
    if override:
        return expand_home(override) / kind
    # platformdirs costs a millisecond and knows macOS; imported here so that `--help` does not pay.
    from platformdirs import PlatformDirs

    return Path(getattr(PlatformDirs("g4", appauthor=False), f"user_{kind}_dir"))
