"""An answer as JSON, its figures as text, its tool calls, and why the loop detector stopped it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from g4cli.core.quoting import shell_command
from g4cli.core.units import count_text, duration_text
from g4cli.core.visible import json_text, one_line
from g4cli.prompt.reply import CallMade

if TYPE_CHECKING:
    from g4cli.chat import DraftStats, FoundLoop, LoopNoticed, Reply
    from g4cli.operations.chat.session import ChatSession

_MAX_UNIT_CHARS: Final = 60  # characters of a repeated text in a message
_SHOWN_RESULT: Final = 200  # characters of a tool's result: a choice, enough to recognize it
# A choice: an answer that repeats itself within so many tokens after its first period has done
# nothing else.
_EARLY_TOKENS: Final = 16


def reply_to_json(reply: Reply, load_s: float, drafted: DraftStats | None = None) -> dict[str, Any]:
    """Return the document of `g4 chat --json`, described by docs/reference/schemas/chat.json.

    `load_s` is the time that loading took. `drafted` is None without speculative decoding.
    """
    data: dict[str, Any] = {
        "text": reply.text,
        "thought": reply.thought,
        "finish_reason": reply.finish_reason,
        "usage": {
            "prompt_tokens": reply.prompt_tokens,
            "cached_tokens": reply.reused_tokens,
            "completion_tokens": reply.completion_tokens,
        },
        "timing": {
            "load_s": round(load_s, 3),
            "prompt_tps": round(reply.prompt_tps, 2),
            "decode_tps": round(reply.decode_tps, 2),
        },
        "loop": loop_to_json(reply.loop),
    }
    if reply.retried is not None:
        data["retried"] = loop_to_json(reply.retried)
    if drafted is not None:
        data["usage"] |= {
            "draft_tokens": drafted.n_drafted,
            "accepted_draft_tokens": drafted.n_accepted,
        }
    if reply.tool_calls:
        data["tool_calls"] = [
            {"name": c.name, "arguments": dict(c.arguments)} for c in reply.tool_calls
        ]
    return data


def loop_to_json(loop: FoundLoop | None) -> dict[str, Any] | None:
    """Return a repetition as an object of docs/reference/schemas/chat.json."""
    if loop is None:
        return None
    return {key: getattr(loop, key) for key in ("unit", "period", "onset", "covered")}


def format_call(event: CallMade) -> str:
    """Return a tool call as one line of JSON."""
    call = {"name": event.call.name, "arguments": dict(event.call.arguments)}
    return json_text({"tool_call": call})


def describe_notice(notice: LoopNoticed) -> str:
    """Return what happens to an answer that repeats itself and goes on."""
    text = _describe_repetition(notice.loop)
    if notice.retried:
        return f"{text}; cut back to where that began, and continued in another way"
    return f"{text}; Ctrl-C stops it"


def describe_loop(loop: FoundLoop, path: object, *, forced: bool = False) -> str:
    """Return why the loop detector stopped an answer: what repeats, how often, from which token.

    `path` is the model file. `forced` says that a grammar constrains the answer: it may leave the
    model no other continuation.
    """
    text = f"stopped: {_describe_repetition(loop)}"
    if forced:
        return f"{text}; the grammar may allow nothing else; --no-loop-stop lets it continue"
    # A sound model drifts into a loop; a damaged one begins with it.
    if loop.onset < loop.period + _EARLY_TOKENS:
        examine = shell_command("g4", "doctor", str(path))
        return f"{text}; it repeats from the beginning, so the file may be damaged: {examine}"
    return f"{text}; --on-loop retry continues it in another way, --no-loop-stop lets it go on"


def is_cut_off_in_grammar(reply: Reply, session: ChatSession) -> bool:
    """Return whether an answer that has to obey a schema or grammar has reached a limit of tokens.

    What there is of it may not obey.
    """
    return reply.finish_reason == "length" and session.has_grammar


def describe_end(reply: Reply, session: ChatSession) -> str:
    """Return what ended an answer too early and what prevents it; "" if nothing did, or Ctrl-C."""
    if reply.finish_reason == "loop" and reply.loop:
        return describe_loop(reply.loop, session.engine.path, forced=session.has_grammar)
    if reply.finish_reason != "length":
        return ""
    n_tokens = count_text(reply.completion_tokens, "token")
    option = "--ctx" if reply.context_full else "--max-tokens"
    if is_cut_off_in_grammar(reply, session):
        return (
            f"the answer was cut off after {n_tokens}: it is incomplete, and may not obey its "
            f"schema or grammar (a larger {option} lets it end)"
        )
    if reply.context_full:
        full = f"the context of {session.engine.n_ctx:,} tokens is full"
        return f"the answer was truncated: {full} (a larger {option}, or a new conversation)"
    return f"the answer was truncated after {n_tokens} ({option})"


def _describe_repetition(loop: FoundLoop) -> str:
    """Return what repeats, how often and from where: "the answer repeats 'x' (9 times, ...)".

    The kinds of loops are explained in loops/detector.py.
    """
    unit = repr(
        loop.unit if len(loop.unit) <= _MAX_UNIT_CHARS else loop.unit[:_MAX_UNIT_CHARS] + "..."
    )
    extent = f"{count_text(loop.covered, 'token')}, from token {loop.onset + 1:,}"
    if loop.kind in ("few-tokens", "few-phrases"):
        few = f"the same {loop.period} tokens" if loop.kind == "few-tokens" else "a few phrases"
        return f"the answer repeats {few}, such as {unit} ({extent})"
    changes = {"noisy": " with small changes", "counter": " while a number counts"}
    times = f"{loop.covered // max(1, loop.period)} times, {extent}"
    return f"the answer repeats {unit}{changes.get(loop.kind, '')} ({times})"


def format_stats(session: ChatSession, reply: Reply) -> str:
    """Return the figures of a turn as one line.

    The prompt's first number counts the tokens that were not in the KV cache already.
    """
    prompt, answer = (
        count_text(n, "token") for n in (reply.prompt_tokens, reply.completion_tokens)
    )
    parts = [
        f"load {duration_text(session.load_s)}",
        f"prompt {reply.evaluated_tokens:,} of {prompt} at {_format_rate(reply.prompt_tps)}",
        f"answer {answer} at {_format_rate(reply.decode_tps)}",
        f"context {session.engine.n_past:,}/{session.engine.n_ctx:,}",
        *_describe_drafts(session.engine.drafted),
    ]
    return " · ".join(parts)


def _describe_drafts(drafted: DraftStats | None) -> list[str]:
    """Return how many drafted tokens were accepted, and where drafting stopped; else []."""
    if drafted is None or (not drafted.n_drafted and drafted.stopped_at is None):
        return []
    if drafted.stopped_at == 0:
        return [
            "no drafts at temp 0, where a near tie could be decided differently "
            "(--draft lookup drafts anyway)"
        ]
    share = f" ({100 * drafted.n_accepted // drafted.n_drafted} %)" if drafted.n_drafted else ""
    text = f"drafted {drafted.n_drafted}, accepted {drafted.n_accepted}{share}"
    if drafted.stopped_at is not None:
        text += (
            f", none after token {drafted.stopped_at:,}: at temp 0 a near tie could be decided "
            "differently"
        )
    return [text]


def _format_rate(tokens_per_s: float) -> str:
    return f"{tokens_per_s:.1f}/s" if tokens_per_s < 100 else f"{tokens_per_s:.0f}/s"


def shorten_result(text: str) -> str:
    """Return the result of a tool on one line; only the beginning of a long one."""
    line = one_line(text)
    more = f" ... ({len(text):,} characters)" if len(line) > _SHOWN_RESULT else ""
    return f"{line[:_SHOWN_RESULT]}{more}"
