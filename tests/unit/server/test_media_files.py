"""Files of images and sounds exist exactly as long as a request needs them."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from g4cli.core.errors import BadMedia
from g4cli.operations.serving.media_files import MediaFiles
from g4cli.prompt.messages import Media
from tests.support.builders.media_files import picture, png

PNG = png(picture(8, 8))


def test_a_file_ends_with_its_request() -> None:
    files = MediaFiles()
    with files.hold_request():
        media = files.store("image", PNG)
        assert media.path.read_bytes() == PNG
    assert not media.path.exists()
    assert files.paths == ()
    files.close()


def test_a_refused_request_leaves_none() -> None:
    files = MediaFiles()
    stored: list[Path] = []

    def read_request() -> None:
        with files.hold_request():
            stored.append(files.store("image", PNG).path)
            files.store("audio", PNG)

    with pytest.raises(BadMedia):
        read_request()
    assert not stored[0].exists()
    files.close()


def test_an_answer_that_still_runs_keeps_it() -> None:
    files = MediaFiles()
    with files.hold_request():
        media = files.store("image", PNG)
        files.use([media])
    assert media.path.is_file()
    files.release([media])
    assert not media.path.exists()
    files.close()


def test_a_file_of_a_saved_conversation_stays(tmp_path: Path) -> None:
    files = MediaFiles()
    (tmp_path / "kept").write_bytes(PNG)
    media = Media("image", tmp_path / "kept")
    with files.hold_request():
        files.store("image", PNG)
        files.use([media])
        files.release([media])
    files.close()
    assert media.path.read_bytes() == PNG


def test_a_thread_of_the_request_stores_for_it() -> None:
    files = MediaFiles()
    with files.hold_request(), ThreadPoolExecutor(1) as pool:
        context = contextvars.copy_context()
        media = pool.submit(context.run, files.store, "image", PNG).result()
        assert media.path.is_file()
    assert not media.path.exists()
    files.close()


def test_requests_of_the_same_image_do_not_take_it_from_each_other() -> None:
    files = MediaFiles()
    start = threading.Barrier(8)

    def run_requests() -> int:
        start.wait()
        n_whole = 0
        for _ in range(100):
            with files.hold_request():
                media = files.store("image", PNG)
                n_whole += media.path.read_bytes() == PNG
        return n_whole

    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(run_requests) for _ in range(8)]
        assert [future.result() for future in found] == [100] * 8
    assert files.paths == ()
    files.close()


def test_a_folder_that_was_deleted_is_made_again() -> None:
    files = MediaFiles()
    with files.hold_request():
        folder = files.store("image", PNG).path.parent
    folder.rmdir()
    with files.hold_request():
        assert files.store("image", PNG).path.read_bytes() == PNG
        assert folder.stat().st_mode & 0o777 == 0o700
    files.close()
