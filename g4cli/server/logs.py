"""The log of the server: one line for each request and each answer, as text or as JSON.

No key, no header and no word of a prompt or an answer is logged. Control characters of paths are
escaped.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, Literal

from g4cli.chat import Reply
from g4cli.core.progress import Progress, no_progress
from g4cli.core.reporter import ProgressUnit
from g4cli.core.units import count_text
from g4cli.core.visible import one_line
from g4cli.server.guard import Served

LOG: Final = logging.getLogger("g4.serve")


def start_log(log_format: Literal["text", "json"], stream: IO[str]) -> None:
    """Write the log to `stream` from now on, and turn off uvicorn's own, which would repeat it."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    LOG.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def log_request(served: Served) -> None:
    """Log a request that was answered, but for /health: programs ask for it all the time."""
    if served.path.endswith("/health"):
        return
    fields = {
        "method": served.method,
        "path": served.path,
        "status": served.status,
        "ms": round(served.seconds * 1e3, 1),
        "client": served.client,
    }
    text = f"{served.method} {served.path} {served.status} in {fields['ms']} ms"
    LOG.info("%s", text, extra={"fields": {"event": "request", **fields}})


def log_reply(model: str, reply: Reply) -> None:
    """Log a finished answer; one that repeats itself is a warning."""
    fields = {
        "model": model,
        "prompt_tokens": reply.prompt_tokens,
        "cached_tokens": reply.reused_tokens,
        "completion_tokens": reply.completion_tokens,
        "prompt_per_second": round(reply.prompt_tps, 1),
        "predicted_per_second": round(reply.decode_tps, 1),
        "finish_reason": reply.finish_reason,
    }
    text = (
        f"{model}: {count_text(reply.prompt_tokens, 'prompt token')} "
        f"({reply.reused_tokens:,} cached), "
        f"{count_text(reply.completion_tokens, 'token')} at {reply.decode_tps:.1f} per second"
    )
    extra: dict[str, Any] = {"fields": {"event": "answer", **fields}}
    if reply.loop is None:
        LOG.info("%s", text, extra=extra)
    else:
        extra["fields"]["loop"] = {"kind": reply.loop.kind, "period": reply.loop.period}
        end = "stopped: it repeats" if reply.finish_reason == "loop" else "not stopped: it repeated"
        LOG.warning("%s; %s itself (%s)", text, end, reply.loop.kind, extra=extra)


class LogReporter:
    """A Reporter (core.reporter) that writes to the log; progress is not shown."""

    def say(self, text: str) -> None:
        """Log a message."""
        LOG.info("%s", text)

    def warn(self, text: str) -> None:
        """Log a warning."""
        LOG.warning("%s", text)

    @contextmanager
    def progress(self, label: str, *, unit: ProgressUnit = "bytes") -> Iterator[Progress]:
        """Log that the job called `label` begins."""
        del unit
        LOG.info("%s", label)
        yield no_progress


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return `14:03:59 message`; a traceback follows on lines of its own."""
        when = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        text = f"{when} {level}{one_line(record.getMessage())}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return one JSON object on one line."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        data = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            data["traceback"] = self.formatException(record.exc_info)
        return json.dumps(data)
