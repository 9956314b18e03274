"""Open a chat: prepare the model, choose drafting and context, load it in its worker process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from g4cli.core.errors import G4Error
from g4cli.runtime.engine.client import EngineClient

if TYPE_CHECKING:
    from g4cli.core.reporter import Reporter
    from g4cli.operations.chat.request import ChatRequest
    from g4cli.operations.chat.session import ChatSession


# Choices: how long the end of a chat waits for states of prompts that are still being written; the
# user is told after the first time, and the second is the limit.
_TELL_AFTER_S: Final = 1.0
_FINISH_S: Final = 20.0


@contextmanager
def open_session(
    request: ChatRequest, reporter: Reporter, *, require_fit: bool = False
) -> Iterator[ChatSession]:
    """Yield a session with the model loaded; the worker process ends with the block.

    With `require_fit` a model that does not fit into memory is not loaded. Raises DoesNotFit then,
    and what read_inputs, prepare_model, choose_draft, plan_chat and EngineClient.open raise.
    """
    # The worker loads llama.cpp while this process imports the rest and reads the files.
    with EngineClient() as engine:
        from g4cli.host import read_host
        from g4cli.operations.chat.drafting import choose_draft
        from g4cli.operations.chat.inputs import read_inputs
        from g4cli.operations.chat.plan import make_open_request, plan_chat, replace_gpus
        from g4cli.operations.chat.session import ChatSession
        from g4cli.operations.models import prepare_model

        inputs = read_inputs(request)
        model = prepare_model(request.model, reporter, expand=request.expand)
        draft = choose_draft(request, model, lambda: engine.hello().draft_refusal, reporter)
        # Free memory is read before the weights are loaded, which would count twice otherwise.
        host = replace_gpus(read_host(), engine.hello().devices)
        plan = plan_chat(
            request, model, host, reporter, draft=draft.option, require_fit=require_fit
        )
        started = time.perf_counter()
        with reporter.progress(f"load {model.path.name}", unit="steps") as progress:
            engine.open(make_open_request(request, model, plan, draft), progress)
        load_s = time.perf_counter() - started
        yield ChatSession(
            request, model, engine, inputs, load_s, reporter, resident_bytes=plan.resident_bytes
        )
        _finish_states(engine, reporter)


def _finish_states(engine: EngineClient, reporter: Reporter) -> None:
    """Wait until what was read is saved. Ctrl-C ends it: then it is read again the next time."""
    with suppress(G4Error), engine.ctrl_c.listening():
        if engine.finish_states(_TELL_AFTER_S) or engine.ctrl_c.is_set:
            return
        reporter.say("saving what was read, so that it is not read again (Ctrl-C skips this)")
        engine.finish_states(_FINISH_S - _TELL_AFTER_S)
