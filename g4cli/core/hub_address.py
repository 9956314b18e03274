"""Parse addresses of repositories: hf:OWNER/REPO[/FILE][:TYPE][@REVISION]."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote

from g4cli.core.errors import UsageError
from g4cli.core.files import is_there
from g4cli.core.paths import expand_home

HUB_PREFIX: Final = "hf:"
_NAME: Final = r"[0-9A-Za-z][0-9A-Za-z._-]{0,95}"  # the hub allows 96 characters
# hf:OWNER/REPO[/FILE][:TYPE][@REVISION]; hf: and a page's URL; OWNER/REPO[:TYPE][@REVISION].
_ADDRESS: Final = re.compile(
    rf"hf:(?://)?(?P<repo>{_NAME}/{_NAME})(?:/(?P<path>[^:@]+))?"
    r"(?::(?P<type>[^/:@]+))?(?:@(?P<revision>[^@]+))?"
)
_WEB: Final = re.compile(
    rf"hf:(?://)?https?://[^/]+/(?P<repo>{_NAME}/{_NAME})"
    r"(?:/(?:blob|resolve|tree)/(?P<revision>[^/?#]+)(?:/(?P<path>[^?#]+?))?)?/?(?:[?#].*)?"
)
_PLAIN: Final = re.compile(rf"{_NAME}/{_NAME}(?::[^/:@]+)?(?:@[^@:]+)?")
_SITES: Final = ("huggingface.co/", "www.huggingface.co/", "hf.co/")


class HubAddress(NamedTuple):
    """An address taken apart: `repo` is OWNER/REPO; `path` and `type`, in lower case, may be ""."""

    repo: str
    path: str
    type: str
    revision: str | None


def is_on_hub(name: str | Path) -> bool:
    """Return whether `name` is an address on the hub (hf:OWNER/REPO...), not a local path."""
    return str(name).startswith(HUB_PREFIX)


def as_address(text: str) -> str:
    """Return `text` as hf:OWNER/REPO[/FILE][:TYPE][@REVISION] if it names the hub, else unchanged.

    OWNER/REPO and URLs of huggingface.co and hf.co name the hub unless they exist as a path here.
    Raises UsageError for any other URL.
    """
    if is_on_hub(text):
        return _canonical_address(text) if _WEB.fullmatch(text) else text
    scheme, mark, rest = text.partition("://")
    if mark and scheme.lower() in ("http", "https"):
        if not rest.lower().startswith(_SITES):
            raise UsageError(
                f"not an address on the hub: {text!r}",
                hint="download it, then name the file; or write hf:OWNER/REPO[/FILE][:TYPE]",
            )
        return _parse_page(rest)
    if is_there(expand_home(text)):
        return text
    if text.lower().startswith(_SITES):
        return _parse_page(text)
    is_file = text.lower().endswith((".gguf", ".safetensors", ".json"))
    return HUB_PREFIX + text if _PLAIN.fullmatch(text) and not is_file else text


def _parse_page(page: str) -> str:
    """Return the address that `page`, a URL without its scheme, names. Raises UsageError."""
    name = page.partition("/")[2]  # with a type as Ollama takes it: hf.co/OWNER/REPO:TYPE
    is_name = _PLAIN.fullmatch(name)
    return HUB_PREFIX + name if is_name else _canonical_address(f"{HUB_PREFIX}https://{page}")


def _canonical_address(web: str) -> str:
    """Return an address copied from a browser in the form hf:OWNER/REPO/FILE@REVISION."""
    parts = parse_address(web)
    at = f"@{parts.revision}" if parts.revision not in (None, "main") else ""
    return f"{HUB_PREFIX}{parts.repo}{'/' * bool(parts.path)}{parts.path}{at}"


def parse_address(text: str) -> HubAddress:
    """Return the parts of an address. Raises UsageError.

    `hf:https://huggingface.co/OWNER/REPO/blob/main/FILE`, as copied from a browser, works too.
    """
    web = _WEB.fullmatch(text)
    match = web or _ADDRESS.fullmatch(text)
    if not match or ".." in match["repo"] or match["repo"].endswith((".git", "-", ".")):
        raise UsageError(
            f"not an address on the hub: {text!r}",
            hint="write it as hf:OWNER/REPO[/FILE][:TYPE][@REVISION]",
        )
    groups = match.groupdict()
    type_name = normalize_type(groups.get("type") or "")
    path, revision = groups.get("path") or "", groups.get("revision")
    if web:
        path, revision = unquote(path), revision and unquote(revision)
    return HubAddress(groups["repo"], path, type_name, revision)


def normalize_type(text: str) -> str:
    """Return a type as the store names it: q4_k_m for Q4-K-M.

    Unsloth's dynamic types keep the hyphen behind UD: ud-q4_k_xl.
    """
    return text.lower().replace("-", "_").replace("ud_", "ud-", 1)
