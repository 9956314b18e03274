"""Waiting for the masks of a grammar, from a process that gives none."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from g4cli.core.errors import RuntimeFailed
from g4cli.runtime.engine.masks import MaskStream


def test_whoever_asks_now_and_then_waits_no_longer_than_whoever_waits() -> None:
    """The scheduler asks between its batches, and must not ask for ever."""
    clock = Mock(return_value=1000.0)
    process = Mock(n_vocab=8)
    stream = MaskStream(process, 1, "{}", clock)

    def stop(reason: str) -> None:
        stream.fail(RuntimeFailed(reason))

    process.stop.side_effect = stop
    assert not stream.is_ready
    clock.return_value += 100  # to index the vocabulary may take so long
    assert not stream.is_ready
    clock.return_value += 100
    assert stream.is_ready
    with pytest.raises(RuntimeFailed, match="it gave no answer"):
        stream.take_mask()
