"""What the default run leaves out is run by .ci/run and by the workflows."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.support.paths import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def read_target(name: str) -> tuple[list[str], str]:
    """Return the prerequisites and the recipe of a target of the Makefile."""
    found = re.search(rf"^{name}:(.*)\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    assert found, name
    return found[1].split(), found[2]


def read_workflow(name: str) -> list[str]:
    """Return the commands of a workflow."""
    text = (ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def list_targets(commands: list[str]) -> set[str]:
    """Return the targets of the Makefile that commands build, with those of `test-all`."""
    targets = {word for line in commands for word in re.findall(r"^make ([a-z-]+)", line)}
    return targets | set(read_target("test-all")[0]) if "test-all" in targets else targets


def test_the_targets_run_all_tests_between_them() -> None:
    """conftest leaves out the slow tests where no -m is given; test_conftest.py proves it."""
    default, slow = read_target("test")[1], read_target("test-slow")[1]
    assert "pytest" in default
    assert "-m" not in default.split("pytest")[1]
    assert "tests/" not in default + slow
    assert re.search(r"pytest .*-m slow$", slow, re.MULTILINE)
    assert read_target("test-all")[0] == ["test", "test-slow"]


def test_ci_runs_all_of_them() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert {"test", "test-slow"} <= list_targets(script.splitlines())
    # -m chooses among all tests, slow or not.
    assert '-m "requires_vocab or requires_template"' in script


@pytest.mark.parametrize("name", ["test.yml", "release.yml"])
def test_workflows_run_all_of_them(name: str) -> None:
    assert {"test", "test-slow"} <= list_targets(read_workflow(name))
