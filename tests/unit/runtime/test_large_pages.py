"""Every process that holds a model asks for large pages: what is measured is what a chat gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from g4cli.core.errors import RuntimeFailed
from g4cli.runtime.engine import process
from g4cli.runtime.engine.async_worker import AsyncWorkerProcess
from g4cli.runtime.engine.client import EngineClient
from g4cli.runtime.engine.messages import CODEC
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.measure.client import run_measurement
from g4cli.runtime.measure.messages import RunBench, RunEvaluation
from g4cli.runtime.measure.reports import BenchOptions
from g4cli.runtime.rpc import server

MODEL = Path("model.gguf")
STARTS: dict[str, Callable[[], object]] = {
    "chat": lambda: EngineClient({"LLAMA_ATTN_ROT_DISABLE": "1"}),
    "serve": lambda: AsyncWorkerProcess("module", CODEC),
    "bench": lambda: run_measurement(RunBench(MODEL, ModelOptions(), BenchOptions())),
    "worker": lambda: server.RpcServer(server.ServerOptions(port=0)),
    "eval": lambda: run_measurement(RunEvaluation(MODEL, ModelOptions(), ())),
}


@pytest.mark.parametrize("command", STARTS)
def test_a_process_with_a_model_gets_large_pages(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments = []

    def refuse(*_args: object, environment: Mapping[str, str], **_options: object) -> None:
        environments.append(environment)
        raise OSError("no process")

    monkeypatch.setattr(process, "start_child", refuse)
    monkeypatch.setattr(server, "start_child", refuse)
    with pytest.raises(RuntimeFailed, match="no process"):
        STARTS[command]()
    assert environments[0]["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
