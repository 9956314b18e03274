"""Addresses of repositories as people type them: hf:OWNER/REPO[/FILE][:TYPE][@REVISION]. No I/O."""

from __future__ import annotations

import re
from typing import Final

from g4cli.core.errors import UsageError

HUB_PREFIX: Final = "hf:"
_NAME: Final = r"[0-9A-Za-z][0-9A-Za-z._-]{0,95}"
_ADDRESS: Final = re.compile(
    rf"hf:(?://)?(?P<repo>{_NAME}/{_NAME}?)(?:/(?P<path>[^:@]+))?(?::(?P<type>[^/:@]+))?(?:@(?P<revision>[^@]+))?"
)
_WEB: Final = re.compile(
    rf"hf:(?://)?https?://[^/]+/(?P<repo>{_NAME}/{_NAME})(?:/(?:blob|resolve|tree)/(?P<revision>[^/]+)(?:/(?P<path>[^?#]+))?)?"
    r"(?:[?#].*)?"
)


def parse_address(text: str) -> tuple[str, str, str, str | None]:
    """Return (repository, path or "", type or "", revision or None). Raises UsageError.

    `hf:https://huggingface.co/OWNER/REPO/blob/main/FILE`, as copied from a browser, works too.
    """
    match = _WEB.fullmatch(text) or _ADDRESS.fullmatch(text)
    if not match or ".." in match["repo"] or match["repo"].endswith(("/", ".git", "-", ".")):
        raise UsageError(
            f"not an address on the hub: {text!r}",
            hint="write it as hf:OWNER/REPO[/FILE][:TYPE][@REVISION]",
        )
    groups = match.groupdict()
    type_name = (groups.get("type") or "").lower().replace("-", "_").replace("ud_", "ud-", 1)
    return groups["repo"], groups.get("path") or "", type_name, groups.get("revision")
