"""What llama-server answers too is answered as it does: `tests/golden/llama_server.json`.

tests/oracle/record_llama_server.py recorded it. Where answers depend on the machine, their fields
and types are compared; g4 leaves fields out and adds few.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.oracle.record_llama_server import describe_types
from tests.support.paths import TESTS
from tests.support.run.server import RunningServer

GOLDEN = json.loads((TESTS / "golden/llama_server.json").read_text(encoding="utf-8"))
ADDED = {"/slots": {"model"}}


def ask(server: RunningServer, path: str, body: dict[str, Any] | None) -> Any:
    if body is None:
        answer = httpx.get(server.url + path, timeout=60)
    else:
        answer = httpx.post(server.url + path, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("case", GOLDEN["equal"], ids=lambda case: case["path"])
def test_the_same_answer(server: RunningServer, case: dict[str, Any]) -> None:
    assert ask(server, case["path"], case["body"]) == case["answer"]


@pytest.mark.parametrize("case", GOLDEN["alike"], ids=lambda case: case["path"])
def test_fields_have_the_same_names_and_types(server: RunningServer, case: dict[str, Any]) -> None:
    found = describe_types(ask(server, case["path"], case["body"]))
    assert list(find_differences(found, case["types"], ADDED.get(case["path"], set()))) == []


def find_differences(found: Any, known: Any, added: set[str], where: str = "") -> Any:
    """Yield fields of `found` that are missing in `known` or have another type there."""
    if isinstance(found, dict) and isinstance(known, dict):
        for key in found.keys() - added:
            if key not in known:
                yield f"{where}.{key}"
            else:
                yield from find_differences(found[key], known[key], added, f"{where}.{key}")
    elif isinstance(found, list) and isinstance(known, list):
        for item, other in zip(found, known, strict=False):
            yield from find_differences(item, other, added, f"{where}[]")
    elif found != known:
        yield f"{where} is {found}, not {known}"


def test_metrics_are_read_by_prometheus(server: RunningServer) -> None:
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert all(family.documentation and len(family.samples) == 1 for family in families.values())
    names = {sample.name: family.type for family in families.values() for sample in family.samples}
    shared = {name: kind for name, kind in names.items() if name.startswith("llamacpp:")}
    assert len(shared) >= 9
    assert shared.items() <= GOLDEN["metrics"].items()
