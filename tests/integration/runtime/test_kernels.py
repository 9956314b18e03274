"""The kernel probe: real products on this machine, and children that die."""

from __future__ import annotations

from g4cli.runtime.probes.kernels import TYPES, probe_kernels


def test_every_product_of_this_machine_is_right() -> None:
    report = probe_kernels()
    plain = {p.type: p for p in report.products if p.layout == "plain"}
    assert set(plain) == set(TYPES)
    # The pinned build must compute everything in plain layout; that is what `make setup` promises.
    assert {p.status for p in plain.values()} == {"ok"}
    assert report.find_broken("plain") == ()
    assert report.use_extra_bufts == (report.find_broken("extra") == ())
    assert report.reason
