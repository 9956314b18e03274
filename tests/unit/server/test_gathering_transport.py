"""What is written to a connection in one round of the event loop is sent together."""

from __future__ import annotations

import asyncio
from typing import Any

from g4cli.server.protocol import GatheringTransport


class Sent:
    """A transport that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ended = ""

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def get_write_buffer_size(self) -> int:
        return 7


def make(loop: asyncio.AbstractEventLoop) -> tuple[Sent, Any]:
    sent = Sent()
    transport: Any = sent
    return sent, GatheringTransport(transport, loop)


def test_pieces_of_one_round_are_sent_together() -> None:
    async def run() -> None:
        sent, transport = make(asyncio.get_running_loop())
        for piece in (b"one ", b"", b"two "):
            transport.write(piece)
        assert sent.sent == []
        await asyncio.sleep(0)
        assert sent.sent == [b"one two "]
        transport.write(b"three")
        await asyncio.sleep(0)
        assert sent.sent == [b"one two ", b"three"]

    asyncio.run(run())


def test_much_is_sent_at_once() -> None:
    """So that the buffer of the connection fills up, and its writer has to wait."""

    async def run() -> None:
        sent, transport = make(asyncio.get_running_loop())
        transport.write(b"x")
        transport.write(b"y" * GatheringTransport.most_bytes)
        assert [len(data) for data in sent.sent] == [GatheringTransport.most_bytes + 1]
        await asyncio.sleep(0)
        assert len(sent.sent) == 1

    asyncio.run(run())


def test_what_was_written_is_sent_before_the_connection_is_closed() -> None:
    async def run() -> None:
        sent, transport = make(asyncio.get_running_loop())
        transport.write(b"last")
        transport.close()
        assert (sent.sent, sent.ended) == ([b"last"], "closed")
        await asyncio.sleep(0)
        assert sent.sent == [b"last"]

    asyncio.run(run())


def test_an_aborted_connection_sends_nothing_more() -> None:
    async def run() -> None:
        sent, transport = make(asyncio.get_running_loop())
        transport.write(b"last")
        transport.abort()
        await asyncio.sleep(0)
        assert (sent.sent, sent.ended) == ([], "aborted")
        assert transport.get_write_buffer_size() == 7

    asyncio.run(run())
