"""Ask a model behind an OpenAI-style endpoint (POST /chat/completions) and read its answer.

The answer is streamed, so that the time to its first token can be measured. A rate limit (429) or
an overloaded server (500, 502, 503, 504) is waited for, as long as Retry-After or Google's
retryDelay says. A parameter that the server does not know is left out and reported. What the server
sends is limited in bytes and time; redirects are not followed, since they would take the key along.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import httpx2

from g4cli.core.errors import NetworkError, UsageError
from g4cli.core.loopback import is_loopback
from g4cli.core.units import duration_text, size_text
from g4cli.hub.connection import load_certificates, split_http_url
from g4cli.hub.proxies import make_transport
from g4cli.hub.response import is_compressed, retry_seconds

# All limits are choices: far above what a good server needs.
MAX_BYTES: Final = 32 * 1024**2  # of an answer
MAX_SECONDS: Final = 3600.0  # for an answer
_MAX_ERROR_BYTES: Final = 64 * 1024
_MAX_ERROR_CHARS: Final = 500
_MAX_WAIT_S: Final = 900.0  # in all, for one answer
_FIRST_WAIT_S: Final = 2.0  # then doubled, where the server names no time
_LONGEST_WAIT_S: Final = 60.0
_MAX_NAME_CHARS: Final = 200  # of the names that a server sends
_MAX_COUNT: Final = 1 << 40
_BUSY: Final = (429, 500, 502, 503, 504)
# A server may take long to read a prompt: the wait for each piece of the answer.
_TIMEOUT: Final = httpx2.Timeout(connect=15.0, read=600.0, write=60.0, pool=60.0)
# Parameters that some servers refuse. The answer is then asked for without them.
_OPTIONAL: Final = ("stream_options", "seed", "top_p", "temperature", "max_tokens")
_RETRY_DELAY: Final = re.compile(r'"retryDelay"\s*:\s*"(\d{1,6}(?:\.\d{1,9})?)s"')


@dataclass(frozen=True, slots=True)
class RemoteAnswer:
    """An answer and its figures.

    `first_s` is the time in seconds to its first text or thought, None if it has neither, `total_s`
    to its end; waits for a rate limit are excluded. Token counts are the server's, None if it sent
    none. `model` is the name that the server gave, `not_sent` the parameters that it refused.
    """

    text: str
    thought: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    first_s: float | None
    total_s: float
    model: str
    not_sent: tuple[str, ...]


class _Refusal(NamedTuple):
    """A response without an answer: HTTP's status, and the seconds to wait, 0 if it names none."""

    status: int
    message: str
    wait_s: float


class Endpoint:
    """One model of a server. Threads may ask at the same time. Close it when done."""

    def __init__(
        self,
        url: str,
        model: str,
        key: str = "",
        *,
        say: Callable[[str], None] = lambda _text: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`url` is the base, such as https://host/v1; `say` is told of waits.

        Raises UsageError for a URL that is none, one that would send the key unencrypted, or a key
        that no header can hold.
        """
        if not (key.isascii() and key.isprintable()):
            raise UsageError(
                f"the key for {url} has a character that no key has", hint="export VARIABLE=KEY"
            )
        self.url, self.model = check_url(url, has_key=bool(key)), model
        self._key, self._say, self._sleep = key, say, sleep
        self._client = httpx2.Client(
            transport=make_transport(load_certificates()), timeout=_TIMEOUT
        )
        self._refused: tuple[str, ...] = ()  # optional parameters, never sent again

    def answer(
        self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> RemoteAnswer:
        """Return the answer to `messages`; `options` are further fields of the request.

        Raises NetworkError if the server refuses for another reason than those that are waited for,
        or stays busy for _MAX_WAIT_S.
        """
        waited, wait = 0.0, _FIRST_WAIT_S
        while True:
            body = {
                "model": self.model,
                "messages": list(messages),
                "stream": True,
                "stream_options": {"include_usage": True},
                **options,
            }
            sent = {name: value for name, value in body.items() if name not in self._refused}
            outcome = self._try_once(sent)
            if isinstance(outcome, RemoteAnswer):
                return outcome
            status, message, named_wait = outcome
            refused = _find_refused(message, sent) if status in (400, 422) else ""
            if refused:
                self._say(f"{self.url} refuses {refused}: asking without it")
                # Another thread may have noted it meanwhile.
                self._refused = tuple(dict.fromkeys((*self._refused, refused)))
                continue
            pause = min(named_wait or wait, _MAX_WAIT_S)
            if status not in _BUSY or waited + pause > _MAX_WAIT_S:
                raise self._error(f"HTTP status {status}: {message}", status)
            self._say(f"{self.url}: {message or status}; waiting {duration_text(pause)}")
            self._sleep(pause)
            waited, wait = waited + pause, min(2 * wait, _LONGEST_WAIT_S)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _try_once(self, body: Mapping[str, Any]) -> RemoteAnswer | _Refusal:
        """Return the answer or the refusal. Raises NetworkError."""
        headers = {
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "g4",
        }
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        started = time.monotonic()
        try:
            with self._client.stream(
                "POST",
                f"{self.url}/chat/completions",
                content=json.dumps(body),  # ASCII: a text may hold surrogates, which UTF-8 lacks
                headers=headers,
            ) as response:
                if response.status_code != 200:
                    text = _read_start(response)
                    wait_s = retry_seconds(response.headers) or _find_delay(text)
                    message = self._clean(_find_message(text))
                    return _Refusal(response.status_code, message, wait_s)
                return self._read_answer(response, started)
        except httpx2.HTTPError as err:
            raise self._error(str(err) or type(err).__name__) from None

    def _read_answer(self, response: httpx2.Response, started: float) -> RemoteAnswer:
        """Return the answer in a response of status 200, which was asked for at `started`."""
        if is_compressed(response.headers):
            raise self._error("it sent a compressed answer that was not asked for")
        answer = _Collected()
        plain: list[str] = []
        for line in _iter_lines(response, started, self._error):
            if line.startswith("data:"):
                data = line[5:].strip()
                if data == "[DONE]":
                    break
                self._add_event(answer, data, started)
            elif line and not line.startswith((":", "event:", "id:", "retry:")):
                plain.append(line)  # the server does not stream: one JSON document
        if plain and not answer.n_events:
            self._add_event(answer, "\n".join(plain), started)
        if not answer.n_events:
            raise self._error("it sent an empty answer")
        return answer.finish(time.monotonic() - started, self.model, self._refused, self._clean)

    def _add_event(self, answer: _Collected, data: str, started: float) -> None:
        """Add the JSON document `data` to `answer`. Raises NetworkError if it holds an error."""
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            raise self._error("it sent something that is not JSON") from None
        if not isinstance(event, dict):
            raise self._error("it sent something that is not an answer")
        if event.get("error"):
            raise self._error(self._clean(_find_message(data)))
        answer.add_event(event, started)

    def _clean(self, text: str) -> str:
        """Return what a server says without the key, which some repeat."""
        return text.replace(self._key, "***") if self._key else text

    def _error(self, what: str, status: int = 0) -> NetworkError:
        hint = None
        if status in (401, 403):
            hint = "name the environment variable with its key: -m openai:URL#MODEL@key=VARIABLE"
        return NetworkError(f"{self.url}: {what}", hint=hint)


class _Collected:
    """The pieces of an answer as they arrive. `n_events` counts its chunks."""

    def __init__(self) -> None:
        self.n_events = 0
        self._text: list[str] = []
        self._thought: list[str] = []
        self._finish, self._model = "", ""
        self._usage: Mapping[str, Any] = {}
        self._first_s: float | None = None

    def add_event(self, event: Mapping[str, Any], started: float) -> None:
        """Add a chunk of a stream, or a whole completion."""
        self.n_events += 1
        self._model = self._model or _text_of(event.get("model"))
        usage = event.get("usage")
        self._usage = usage if isinstance(usage, dict) else self._usage
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if not isinstance(choice, dict):
            return
        self._finish = _text_of(choice.get("finish_reason")) or self._finish
        delta = choice.get("delta") or choice.get("message") or {}
        if not isinstance(delta, dict):
            return
        text = _text_of(delta.get("content"))
        thought = _text_of(delta.get("reasoning_content")) or _text_of(delta.get("reasoning"))
        if (text or thought) and self._first_s is None:
            self._first_s = time.monotonic() - started
        self._text.append(text)
        self._thought.append(thought)

    def finish(
        self, total_s: float, model: str, refused: tuple[str, ...], clean: Callable[[str], str]
    ) -> RemoteAnswer:
        """Return the complete answer, all its texts as `clean` returns them."""
        return RemoteAnswer(
            clean("".join(self._text)),
            clean("".join(self._thought)),
            clean(self._finish)[:_MAX_NAME_CHARS] or "stop",
            _count_of(self._usage.get("prompt_tokens")),
            _count_of(self._usage.get("completion_tokens")),
            self._first_s,
            total_s,
            clean(self._model)[:_MAX_NAME_CHARS] or model,
            refused,
        )


def check_url(url: str, *, has_key: bool) -> str:
    """Return the base URL of an endpoint without a slash at its end.

    Raises UsageError unless it is an http or https URL without login and query; with a key, http is
    allowed for this machine only.
    """
    parts = split_http_url(url)
    try:
        httpx2.URL(url)
    except httpx2.InvalidURL:
        parts = None
    if parts is None:
        raise UsageError(
            f"not the URL of an endpoint: {url!r}", hint="openai:https://HOST/v1#MODEL"
        )
    host = parts.hostname or ""
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            f"the URL of an endpoint has neither login nor query: {parts.scheme}://{host}",
            hint="put the key into an environment variable: openai:URL#MODEL@key=VARIABLE",
        )
    if has_key and parts.scheme == "http" and not is_loopback(host):
        raise UsageError(
            f"the key would be sent to {host} unencrypted", hint=f"openai:https://{host}/v1#MODEL"
        )
    return url.rstrip("/").removesuffix("/chat/completions")


def _iter_lines(
    response: httpx2.Response, started: float, error: Callable[[str], NetworkError]
) -> Iterator[str]:
    """Yield the lines of a response; raises what `error` makes beyond MAX_BYTES or MAX_SECONDS."""
    n_bytes, unfinished = 0, b""  # `unfinished` is the line whose end has not arrived
    for piece in response.iter_raw():
        n_bytes += len(piece)
        if n_bytes > MAX_BYTES:
            raise error(f"its answer is larger than {size_text(MAX_BYTES)}")
        if time.monotonic() - started > MAX_SECONDS:
            raise error(f"its answer took longer than {duration_text(MAX_SECONDS)}")
        if b"\n" not in piece:
            unfinished += piece
            continue
        *lines, unfinished = (unfinished + piece).split(b"\n")
        yield from (line.decode("utf-8", "replace").rstrip("\r") for line in lines)
    if unfinished:
        yield unfinished.decode("utf-8", "replace").rstrip("\r")


def _read_start(response: httpx2.Response) -> str:
    """Return the first _MAX_ERROR_BYTES of a response."""
    data = b""
    for piece in response.iter_raw():
        data += piece
        if len(data) > _MAX_ERROR_BYTES:
            break
    return data[:_MAX_ERROR_BYTES].decode("utf-8", "replace")


def _find_message(text: str) -> str:
    """Return the message of an error document, or the beginning of another text."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, list) and document:  # Google's
        document = document[0]
    if isinstance(document, dict):
        error = document.get("error", document)
        if isinstance(error, dict):
            error = error.get("message", "")
        if isinstance(error, str) and error:
            return error[:_MAX_ERROR_CHARS]
    return " ".join(text.split())[:_MAX_NAME_CHARS]


def _find_refused(message: str, sent: Mapping[str, Any]) -> str:
    """Return which optional parameter an error message names, or ""."""
    named = (name for name in _OPTIONAL if name in sent)
    return next((name for name in named if re.search(rf"\b{name}\b", message)), "")


def _find_delay(text: str) -> float:
    """Return the seconds of Google's retryDelay in an error document, 0 if it has none."""
    match = _RETRY_DELAY.search(text)
    return float(match[1]) if match else 0.0


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count_of(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT
    return int(value) if is_count else None
