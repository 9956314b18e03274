"""Certificates and proxies, end to end: a hub that speaks TLS, behind a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import default_client_factory

from g4cli.hub import client
from tests.support.builders.gguf import build_gguf, gemma4_keys
from tests.support.fakes.hub import FakeHub, FakeRepo, running
from tests.support.fakes.net import connect_proxy, server_context, write_authority
from tests.support.run.command import g4

REPO = "owner/repo-GGUF"
DATA = build_gguf(gemma4_keys())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    state = FakeHub(repos={REPO: FakeRepo(lfs={"m-Q4_0.gguf": DATA})}, tls=server_context())
    with running(state):
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        reset_client()
        yield state
    monkeypatch.undo()
    reset_client()


def reset_client() -> None:
    """The library's client remembers what it trusts and where its proxies are."""
    set_client_factory(default_client_factory)
    client._set_client_factory.cache_clear()


def pull_file(capsys: pytest.CaptureFixture[str]) -> bool:
    code, out, err = g4(capsys, "pull", f"hf:{REPO}", "--quiet")
    assert code == 0, err
    return Path(out.strip()).read_bytes() == DATA


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_of_ones_own(
    capsys: pytest.CaptureFixture[str],
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
) -> None:
    monkeypatch.setenv(name, str(write_authority(tmp_path / "ca.pem")))
    assert pull_file(capsys)
    assert hub.sent_bytes == len(DATA)


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_a_certificate_that_nobody_vouches_for(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = g4(capsys, "pull", f"hf:{REPO}")
    assert (code, out) == (6, "")
    assert "its certificate is not trusted" in err
    assert "hint: set SSL_CERT_FILE" in err
    assert "Traceback" not in err


@pytest.fixture
def proxy(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The hub under names that only a proxy knows; yields what the proxy is asked for."""
    seen: list[str] = []
    with connect_proxy(hub.port, seen) as port:
        monkeypatch.setenv("SSL_CERT_FILE", str(write_authority(tmp_path / "ca.pem")))
        monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pass%20word@127.0.0.1:{port}")
        hub.storage_host = "storage.example"
        reset_client()
        yield seen


@pytest.mark.slow
def test_tls_goes_through_a_proxy(
    capsys: pytest.CaptureFixture[str],
    hub: FakeHub,
    proxy: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert pull_file(capsys)
    login = "bWU6cGFzcyB3b3Jk"  # me:pass word
    assert set(proxy) == {
        f"CONNECT hub.example:443 {login}",
        f"CONNECT storage.example:443 {login}",
    }
    assert hub.proxy_logins == set()  # the proxy's password stays with the proxy
    proxy.clear()
    monkeypatch.setenv("NO_PROXY", ".example")
    reset_client()
    assert "cannot be reached" in g4(capsys, "pull", f"hf:{REPO}:q8_0")[2]
    assert proxy == []


@pytest.mark.slow
def test_a_storage_host_that_is_not_who_it_says_it_is(
    capsys: pytest.CaptureFixture[str], hub: FakeHub, proxy: list[str]
) -> None:
    hub.storage_host = "evil.example"
    code, out, err = g4(capsys, "pull", f"hf:{REPO}")
    assert (code, out) == (6, ""), err
    assert "evil.example: its certificate is not trusted" in err
    assert "hint: set SSL_CERT_FILE" in err
    assert hub.sent_bytes == 0
    assert (
        proxy.count("CONNECT evil.example:443 bWU6cGFzcyB3b3Jk") == 1
    )  # asking again would not help
