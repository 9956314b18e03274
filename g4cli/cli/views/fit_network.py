"""Show what layers on other machines cost: bytes for each token, and the time that they take."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from g4cli.cli.output import Output
from g4cli.core.units import count_text, duration_text, size_text
from g4cli.estimate import NetworkCost


class _Network(NamedTuple):
    """A kind of network: bits of data per second, and seconds from a message to its answer.

    Ethernet passes on 94 % as data (1460 of 1538 bytes of a frame, and its acknowledgments); the
    round trips are those that ping shows at home.
    """

    name: str
    bits_per_s: float
    round_trip_s: float


_GIGABIT: Final = _Network("gigabit Ethernet", 0.94e9, 0.3e-3)
_NETWORKS: Final = (
    _Network("2.5 gigabit Ethernet", 2.35e9, 0.3e-3),
    _GIGABIT,
    _Network("Wi-Fi, 300 Mbit/s", 0.3e9, 3e-3),
    _Network("100 Mbit/s Ethernet", 94e6, 0.3e-3),
)
# Bytes that a machine with fast memory reads in a second: the slower the memory is, the less the
# network counts.
_READ_BYTES_PER_S: Final = 100e9
# Share of the time of a token up to which a network "is enough": a choice.
_SMALL_SHARE: Final = 0.1


def network_to_json(network: NetworkCost) -> dict[str, Any]:
    """Return the cost of the network, in bytes and, for common networks, in seconds."""
    return {
        "token_bytes": network.token_bytes,
        "prompt_bytes": network.prompt_bytes,
        "round_trips": network.n_round_trips,
        "load_bytes": network.load_bytes,
        "networks": [
            {
                "name": name,
                "bits_per_s": bits,
                "round_trip_s": round_trip,
                "token_s": network.token_seconds(bits, round_trip),
                "load_s": 8 * network.load_bytes / bits,
            }
            for name, bits, round_trip in _NETWORKS
        ],
    }


def draw_network(out: Output, network: NetworkCost, n_ubatch: int) -> None:
    """Draw bytes, round trips and times, and say whether gigabit Ethernet is enough.

    `n_ubatch`: the tokens of a prompt that are computed at once.
    """
    trips = count_text(network.n_round_trips, "round trip")
    out.line()
    out.line(
        f"Network: {size_text(network.token_bytes)} and {trips} for each token of an answer, "
        f"{size_text(network.prompt_bytes)} for {count_text(n_ubatch, 'token')} of a prompt "
        f"(both with a full context); {size_text(network.load_bytes)} to load the model."
    )
    rows = [
        (
            name,
            duration_text(network.token_seconds(bits, round_trip)),
            f"{1 / network.token_seconds(bits, round_trip):,.0f}",
            duration_text(8 * network.load_bytes / bits),
        )
        for name, bits, round_trip in _NETWORKS
    ]
    out.table(("network", "adds per token", "tokens/s at most", "loading"), rows, right=(1, 2, 3))
    out.line(_judge_gigabit(network))


def _judge_gigabit(network: NetworkCost) -> str:
    """Return whether gigabit Ethernet is enough; a token reads about all weights of a worker."""
    name = _GIGABIT.name
    added_s = network.token_seconds(_GIGABIT.bits_per_s, _GIGABIT.round_trip_s)
    share = added_s / (added_s + network.load_bytes / _READ_BYTES_PER_S)
    verdict = "is enough" if share <= _SMALL_SHARE else "slows answers down"
    return (
        f"{name[0].upper()}{name[1:]} {verdict}: at most {share:.0%} of the time of a token, on "
        "machines that read 100 GB/s from their memory; less on slower ones."
    )
