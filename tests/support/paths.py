"""Where things lie in the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[1]
ROOT: Final = TESTS.parent
GOLDEN: Final = TESTS / "golden"
TINY: Final = ROOT / "g4cli" / "data" / "tiny"
# A folder that may lie beside a checkout; what needs it is skipped without it.
SHARED_DATA: Final = ROOT.parent / "shared" / "data"
