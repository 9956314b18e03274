"""Pictures and sound: attached, pasted, recorded, made smaller, and sent."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from g4cli.core.paths import state_dir
from tests.e2e.page.test_conversation import ask
from tests.support.builders.media_files import sound
from tests.support.builders.media_files import wav as make_wav
from tests.support.builders.tiny_file import build_tiny
from tests.support.paths import TESTS
from tests.support.run.server import RunningServer, run_server, tiny_options, wait_until

pytestmark = [pytest.mark.requires_chromium, pytest.mark.slow]
DRAW = """([width, height, type]) => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext('2d').fillRect(0, 0, width, height / 2);
  return canvas.toDataURL(type).split(',')[1];
}"""
PASTE = """(base64) => {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], 'x.png', {type: 'image/png'}));
  document.querySelector('#question').dispatchEvent(
    new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}));
}"""

DROP = """([name, type, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name, {type}));
  const drop = {dataTransfer, bubbles: true, cancelable: true};
  const isShown = !document.body.dispatchEvent(new DragEvent('dragover', drop)) &&
    document.querySelector('#composer').matches('.dropping');
  const isTaken = !document.body.dispatchEvent(new DragEvent('drop', drop));
  return [isShown, isTaken, document.querySelector('#composer').matches('.dropping')];
}"""


@pytest.fixture(scope="module")
def media_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a server of `tiny` with its encoder of images and sound."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "tiny.gguf").write_bytes(build_tiny())
    (folder / "mmproj-tiny.gguf").write_bytes((TESTS / "golden/tiny_mmproj.gguf").read_bytes())
    with run_server(tiny_options(folder / "tiny.gguf")) as running:
        yield running


def make_picture(page: Any, width: int, height: int, kind: str = "image/png") -> bytes:

    return base64.b64decode(page.evaluate(DRAW, [width, height, kind]))


def test_a_picture_is_attached_shrunk_and_read(page: Any, media_server: RunningServer) -> None:
    page.goto(media_server.url)
    expect(page.get_by_label("Attach pictures or sound")).to_be_visible()
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": make_picture(page, 900, 600)}
    page.set_input_files("input[type=file]", picture)
    expect(page.locator("#attached img")).to_be_visible()
    page.get_by_label("Tokens of a picture").select_option("70")
    note = page.locator("#attached .quiet").inner_text()
    n_tokens = int(note.split()[0])
    assert 40 <= n_tokens <= 70
    ask(page, "What is it?")
    expect(page.locator(".figures")).to_be_visible()
    expect(page.locator(".user .media img")).to_be_visible()
    expect(page.locator("#attached li")).to_have_count(0)
    prompt = page.locator(".figures").inner_text()
    assert n_tokens < int(prompt.partition("prompt ")[2].split(",")[0]) < n_tokens + 60
    page.reload()
    expect(page.locator(".user .media img")).to_be_visible()
    expect(page.locator(".user .media img")).not_to_have_js_property("naturalWidth", 0)


def test_a_pasted_picture_of_another_format_is_converted(
    page: Any, media_server: RunningServer
) -> None:
    page.goto(media_server.url)
    expect(page.get_by_label("Attach pictures or sound")).to_be_visible()
    webp = {"name": "a.webp", "mimeType": "image/webp"}
    data = make_picture(page, 64, 64, "image/webp")
    page.set_input_files("input[type=file]", {**webp, "buffer": data})
    page.evaluate(PASTE, page.evaluate(DRAW, [50, 50, "image/png"]))
    expect(page.locator("#attached img")).to_have_count(2)
    page.get_by_label("Remove the picture").last.click()
    ask(page, "")
    expect(page.locator(".user .media img")).to_have_count(1)
    expect(page.locator(".figures")).to_be_visible()


def test_a_question_stays_in_its_conversation_while_its_picture_is_sent(
    page: Any, media_server: RunningServer
) -> None:
    held: list[Any] = []
    page.goto(media_server.url)
    ask(page, "Who are you?")
    expect(page.locator(".figures")).to_be_visible()
    page.route("**/page/api/media", lambda route: held.append(route))
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": make_picture(page, 64, 64)}
    page.set_input_files("input[type=file]", picture)
    expect(page.locator("#attached img")).to_be_visible()
    ask(page, "What is it?")
    wait_until(lambda: held or page.wait_for_timeout(10))
    page.get_by_role("button", name="New conversation").click()
    held[0].continue_()
    expect(page.locator("#attached li")).to_have_count(0)
    expect(page.locator(".welcome")).to_be_visible()
    page.locator(".list .name", has_text="Who are you?").click()
    expect(page.locator(".user .media img")).to_be_visible()


def test_dropped_files_are_attached(page: Any, media_server: RunningServer) -> None:
    page.goto(media_server.url)
    expect(page.get_by_label("Attach pictures or sound")).to_be_visible()

    def drop(name: str, kind: str, data: bytes) -> Any:
        return page.evaluate(DROP, [name, kind, base64.b64encode(data).decode()])

    picture, wav = make_picture(page, 50, 50), make_wav(sound(16_000))
    assert drop("a.png", "image/png", picture) == [True, True, False]
    assert drop("b.wav", "audio/wav", wav) == [True, True, False]
    expect(page.locator("#attached img")).to_have_count(1)
    expect(page.locator("#attached audio")).to_have_count(1)
    drop("c.txt", "text/plain", b"text")
    expect(page.locator("#notice")).to_contain_text("c.txt is no picture and no sound")
    expect(page.locator("#attached li")).to_have_count(2)
    ask(page, "What do you see and hear?")
    expect(page.locator(".user .media img")).to_have_count(1)
    expect(page.locator(".user .media audio")).to_have_count(1)
    expect(page.locator(".figures")).to_be_visible()
    expect(page.locator("#notice")).to_be_hidden()


def test_recorded_sound_is_sent_as_wav(page: Any, media_server: RunningServer) -> None:
    page.goto(media_server.url)
    page.get_by_label("Record sound").click()
    expect(page.locator("#composer-hint")).to_contain_text("recording, 1.")
    expect(page.locator("meter")).not_to_have_js_property("value", 0)  # Chromium's own beep
    page.get_by_label("End the recording").click()
    expect(page.locator("#attached audio")).to_be_visible()
    ask(page, "What do you hear?")
    expect(page.locator(".user .media audio")).to_be_visible()
    expect(page.locator(".figures")).to_be_visible()
    (file,) = (state_dir() / "media").iterdir()
    data = file.read_bytes()
    assert data[:4] == b"RIFF"
    channels, rate, _, _, bits = struct.unpack("<HIIHH", data[22:36])
    assert (channels, rate, bits) == (1, 16_000, 16)
    assert len(data) - 44 >= 16_000 * 2


def test_the_microphone_is_released_if_a_recording_cannot_begin(
    page: Any, media_server: RunningServer
) -> None:
    page.goto(media_server.url)
    page.evaluate("""() => {
      const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices);
      devices.getUserMedia = async (wanted) => (window.stream = await open(wanted));
      AudioWorklet.prototype.addModule = () => Promise.reject(new Error("the server is gone"));
    }""")
    page.get_by_label("Record sound").click()
    expect(page.locator("#notice")).to_contain_text("the server is gone")
    assert page.evaluate("window.stream.getTracks().map((track) => track.readyState)") == ["ended"]


def test_a_model_that_reads_text_only_has_no_such_buttons(
    page: Any, serve_script: Callable[..., RunningServer]
) -> None:
    server = serve_script(lambda _: ["x"])
    page.goto(server.url)
    expect(page.locator("#model option")).to_have_count(1)
    assert page.get_by_label("Attach pictures or sound").is_hidden()
    assert page.get_by_label("Record sound").is_hidden()
