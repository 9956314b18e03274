"""The machine check on made-up facts, and once on the machine that runs the tests."""

from __future__ import annotations

from g4cli.doctor.diagnose import diagnose_machine


def test_this_machine_answers() -> None:
    findings = {f.id: f.status for f in diagnose_machine().findings}
    assert findings["machine.engine"] == "ok"
    assert findings["machine.folders"] == "ok"
