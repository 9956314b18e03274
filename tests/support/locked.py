"""A folder that this user may not search, for root too, whom the kernel refuses nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest


def lock_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the system refuse whatever looks into `folder` or below it."""

    def refuse_inside(name: str, place: object) -> None:
        real = getattr(place, name)

        def look(path: Any, *args: Any, **options: Any) -> Any:
            if isinstance(path, (str, Path)) and folder in Path(path).parents:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return real(path, *args, **options)

        monkeypatch.setattr(place, name, look)

    for name in ("stat", "open", "listdir", "scandir"):
        refuse_inside(name, os)
    for name in ("open", "iterdir"):  # Python 3.10 keeps os.open and os.listdir in a class
        refuse_inside(name, Path)
