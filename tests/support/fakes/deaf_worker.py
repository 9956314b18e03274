"""A worker process that has no memory for what it is asked."""

from __future__ import annotations

from typing import Any

from g4cli.runtime.engine.codec import Codec
from g4cli.runtime.engine.messages import Hello
from g4cli.runtime.engine.service import Service


class FullMemory(Codec):
    """Finds no memory for any message."""

    def decode(self, data: bytes) -> tuple[int, Any]:
        raise MemoryError(len(data))


if __name__ == "__main__":
    service = Service(FullMemory(()))
    service.send_answer(Hello())
    service.serve_requests({})
