"""The Hugging Face Hub: the files of a repository and where to download them, by huggingface_hub.

Environment, read at each call: HF_ENDPOINT, HF_TOKEN (or the token of `hf auth login`),
HF_HUB_OFFLINE, HF_HUB_CACHE or HF_HOME, HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY,
SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import BadFile, NetworkError, NotFound, UsageError
from g4cli.core.paths import hub_cache_dir
from g4cli.hub.bounds import limit_answers, new_client, origin_of
from g4cli.hub.connection import load_certificates, untrusted_error
from g4cli.hub.listing import SHA1, SHA256, RemoteFile, check_paths
from g4cli.hub.proxies import without_login
from g4cli.hub.response import retry_seconds

_TRUE: Final = ("1", "true", "yes", "on")
_DEFAULT_ENDPOINT: Final = "https://huggingface.co"
_TIMEOUT_S: Final = 15.0  # without an answer: a choice
_LONGEST_WAIT_S: Final = 30.0  # before a retry, whatever the hub asks for: a choice
_TEMPORARY: Final = (408, 429, 500, 502, 503, 504)  # statuses after which a retry may help
_MAX_FILE_BYTES: Final = 1 << 50  # a choice: 1 PiB


@dataclass(frozen=True, slots=True)
class HubOptions:
    """Where the hub is, whether it may be used, and how much of it g4 takes.

    `cache` is the folder of the Hugging Face cache.
    """

    offline: bool = False
    endpoint: str = _DEFAULT_ENDPOINT
    cache: Path = Path()
    max_rows: int = 100_000  # files of one repository: a choice
    waits_s: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)  # before each retry: a choice

    @classmethod
    def from_environment(cls, *, offline: bool = False) -> HubOptions:
        """Return the options that the environment sets; `offline` overrides it."""
        env = os.environ
        switched_off = any(
            env.get(name, "").lower() in _TRUE
            for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        )
        return cls(
            offline or switched_off,
            (env.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/"),
            hub_cache_dir(),
        )


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository, OWNER/REPO, at one commit, with the files that it lists."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]

    def __post_init__(self) -> None:
        # It comes from a server and becomes part of paths and URLs.
        if not SHA1.fullmatch(self.commit):
            raise BadFile(
                f"{self.repo}: the hub returned an invalid commit: {self.commit[:80]!r}; "
                "nothing was downloaded",
                hint="check HF_ENDPOINT",
            )

    def find_file(self, path: str, hint: str) -> RemoteFile:
        """Return the file at `path`. Raises NotFound, with `hint`."""
        for file in self.files:
            if file.path == path:
                return file
        raise NotFound(f"{self.repo} has no file {path}", hint=hint)


@dataclass(frozen=True, slots=True)
class Location:
    """The current URL of a file, often a signed one on another host that expires soon.

    `headers` must be sent with the request. `etag` is the file's hash as the hub records it.
    """

    url: str
    headers: dict[str, str]
    etag: str


class Hub:
    """The hub at one endpoint. Nothing is sent before the first call."""

    def __init__(self, options: HubOptions | None = None) -> None:
        self.options = options or HubOptions.from_environment()

    def read_repository(self, repo: str, revision: str | None = None) -> Repository:
        """Return the commit that `revision` (default: main) names now, and its files.

        Raises NetworkError, NotFound (no such repository or revision), BadFile (an unsafe path, an
        invalid commit or hash).
        """
        self._require_network(repo)
        with _translate_errors(repo, revision, self.options.endpoint):
            info = _retry_call(
                lambda: self._make_api().model_info(repo, revision=revision, timeout=_TIMEOUT_S),
                self.options.waits_s,
            )
            empty = Repository(repo, str(info.sha), ())  # raises if the commit is invalid
            rows = self._make_api().list_repo_tree(repo, recursive=True, revision=empty.commit)
            items = list(islice(rows, self.options.max_rows + 1))
        if len(items) > self.options.max_rows:
            raise BadFile(
                f"{repo} lists more than {self.options.max_rows:,} files", hint="check HF_ENDPOINT"
            )
        # Folders have no blob.
        files = tuple(_remote_file(repo, item) for item in items if hasattr(item, "blob_id"))
        check_paths(repo, (f.path for f in files))
        return replace(empty, files=files)

    def locate_file(self, repository: Repository, file: RemoteFile) -> Location:
        """Return the URL from which `file` can be downloaded now.

        Raises as `read_repository`, BadFile if the file has changed.
        """
        self._require_network(repository.repo)
        from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url

        with _translate_errors(repository.repo, repository.commit, self.options.endpoint):
            token = get_token()
            url = hf_hub_url(
                repository.repo,
                file.path,
                revision=repository.commit,
                endpoint=self.options.endpoint,
            )
            metadata = get_hf_file_metadata(
                url,
                token=token,
                timeout=_TIMEOUT_S,
                library_name="g4",
                endpoint=self.options.endpoint,
                retry_on_errors=True,
            )
        etag = metadata.etag or ""
        nbytes = metadata.size if metadata.size is not None else file.nbytes
        expected = file.sha256 or file.git_oid
        if (expected and etag and etag != expected) or nbytes != file.nbytes:
            raise BadFile(
                f"{repository.repo}/{file.path} changed on the hub: {etag[:12]}, {nbytes:,} bytes; "
                f"listed were {expected[:12]}, {file.nbytes:,} bytes",
                hint="run the same command again",
            )
        with _translate_errors(repository.repo, repository.commit, self.options.endpoint):
            target, home = origin_of(metadata.location), origin_of(self.options.endpoint)
        # Without TLS the signed URL could be read on the way.
        if home[0] == "https" and target[0] != "https":
            raise NetworkError(
                f"{repository.repo}/{file.path}: refused a redirect from https to {target[0]}",
                hint="check HF_ENDPOINT",
            )
        headers = {"User-Agent": "g4"}
        # The token is for the hub, never for the host that it redirects to.
        if token and target == home:
            headers["Authorization"] = f"Bearer {token}"
        return Location(metadata.location, headers, etag)

    def _make_api(self) -> Any:
        from huggingface_hub import HfApi

        _set_client_factory(load_certificates())
        # Its log lines about retries would break the progress bars.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        return HfApi(endpoint=self.options.endpoint, library_name="g4")

    def _require_network(self, repo: str) -> None:
        if self.options.offline:
            raise NetworkError(
                f"{repo} is not on this disk, and the network is off (--offline or HF_HUB_OFFLINE)",
                hint="go online once, or give a path: g4 pull FILE.gguf",
            )


@lru_cache(maxsize=1)
def _set_client_factory(context: ssl.SSLContext | None) -> None:
    """Make huggingface_hub use our limits, and the certificates of `context`."""
    # Cached by context, because a new client opens new connections.
    from huggingface_hub import set_client_factory

    set_client_factory(lambda: new_client(context))


def _remote_file(repo: str, item: Any) -> RemoteFile:
    """Return the file of a row of a listing. Raises BadFile unless every field is valid."""
    lfs = item.lfs
    # With LFS the blob in git is only a pointer: its size and hash are not those of the content.
    size, sha256, oid = lfs.size if lfs else item.size, lfs.sha256 if lfs else "", item.blob_id
    if (
        not isinstance(item.path, str)
        or type(size) is not int
        or not 0 <= size <= _MAX_FILE_BYTES
        or not (isinstance(sha256, str) and (not sha256 or SHA256.fullmatch(sha256)))
        or not (isinstance(oid, str) and (not oid or SHA1.fullmatch(oid)))
    ):
        raise BadFile(
            f"{repo} lists a file with an invalid record: {str(item.path)[:80]!r}; "
            "nothing was downloaded",
            hint=f"report it to the owners of {repo}",
        )
    return RemoteFile(item.path, size, sha256, oid)


def _retry_call(ask: Callable[[], Any], waits_s: tuple[float, ...]) -> Any:
    """Return the result of `ask`, retried after temporary errors, each time after one of `waits_s`.

    huggingface_hub does not retry this request itself.
    """
    import httpx2
    from huggingface_hub import errors

    for wait in waits_s:
        try:
            return ask()
        except errors.HfHubHTTPError as err:
            if err.response is None or err.response.status_code not in _TEMPORARY:
                raise
            wait = max(wait, min(retry_seconds(err.response.headers), _LONGEST_WAIT_S))
        except (httpx2.ReadError, httpx2.RemoteProtocolError, httpx2.TimeoutException):
            pass
        time.sleep(wait)
    return ask()


# What huggingface_hub raises for a response of unexpected structure, which it does not check.
_MALFORMED: Final = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RecursionError,
    AssertionError,
)


@contextmanager
def _translate_errors(repo: str, revision: str | None, endpoint: str) -> Iterator[None]:
    """Turn the exceptions of huggingface_hub and of its HTTP library into G4Error."""
    import httpx2
    from huggingface_hub import errors

    shown_endpoint = without_login(endpoint)
    try:
        with limit_answers(endpoint):
            yield
    except errors.GatedRepoError as err:
        raise NetworkError(
            f"{repo} is gated: its license must be accepted first",
            hint=f"accept it at {shown_endpoint}/{repo}, then: hf auth login",
        ) from err
    except errors.RepositoryNotFoundError as err:
        raise NotFound(
            f"there is no repository {repo} on the hub, or you have no access to it",
            hint="check the name; for a private or gated one: hf auth login, or set HF_TOKEN",
        ) from err
    except errors.RevisionNotFoundError as err:
        raise NotFound(f"{repo} has no revision {revision}", hint=f"g4 pull hf:{repo}") from err
    except errors.EntryNotFoundError as err:
        raise NotFound(
            f"{repo}: the file no longer exists", hint="run the same command again"
        ) from err
    except errors.HFValidationError as err:
        raise UsageError(f"not a repository: {repo!r}", hint="write it as hf:OWNER/REPO") from err
    except errors.OfflineModeIsEnabled as err:
        raise NetworkError(f"{repo}: HF_HUB_OFFLINE is set", hint="unset HF_HUB_OFFLINE") from err
    except errors.HfHubHTTPError as err:
        raise _http_error(
            repo, err.response.status_code if err.response is not None else 0
        ) from err
    except (httpx2.HTTPError, OSError) as err:
        if refused := _certificate_error(err):
            raise untrusted_error(shown_endpoint, refused) from err
        raise NetworkError(
            f"{shown_endpoint} cannot be reached: {_describe_error(err, endpoint)}",
            hint="check the network, HTTPS_PROXY and HF_ENDPOINT, then run the same command again",
        ) from err
    except (httpx2.InvalidURL, *_MALFORMED) as err:
        raise NetworkError(
            f"{shown_endpoint} sent an answer that g4 cannot read: "
            f"{_describe_error(err, endpoint)}",
            hint="check HF_ENDPOINT, then run the same command again",
        ) from err


def _certificate_error(err: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the certificate error that caused `err`, or None; libraries wrap it."""
    while err is not None and not isinstance(err, ssl.SSLCertVerificationError):
        err = err.__cause__ or err.__context__
    return err


def _http_error(repo: str, status: int) -> NetworkError:
    if status in (401, 403):
        return NetworkError(
            f"{repo}: the hub refuses the request ({status})",
            hint="hf auth login, or set HF_TOKEN to a valid token",
        )
    if status == 429:
        return NetworkError(
            f"{repo}: too many requests (429)",
            hint="wait a few minutes; hf auth login raises the limit",
        )
    return NetworkError(
        f"{repo}: the hub answered with status {status}", hint="run the same command again later"
    )


def _describe_error(err: BaseException, endpoint: str) -> str:
    """Return the first line of the message of `err`, without a password in `endpoint`."""
    text = str(err).replace(endpoint, without_login(endpoint)).strip().splitlines()
    return text[0][:200] if text else type(err).__name__
