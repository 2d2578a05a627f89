"""Settings of all tests, and what several of them share."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline import cli
from pipeline.config import RunConfig
from pipeline.demo import make_sample
from pipeline.detection.fallback_chain import DetectedFace, DetectionFailure, FallbackChain
from pipeline.images import DecodedImage
from pipeline.records import ImageRow

# Before torch is imported; child processes inherit it. The threads of several busy processes wait for each other, which
# makes tests many times slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("here", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=15)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of most slow tests: a long file that begins last keeps one process busy alone."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True, scope="session")
def second_thread() -> Iterator[None]:
    """A process with two threads is never forked: by default runs build in threads, where fake detectors count."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait, daemon=True)
    thread.start()
    yield
    end.set()
    thread.join()


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """The built-in sample, made once; it must not be changed."""
    folder = tmp_path_factory.mktemp("sample")
    return make_sample(str(folder), str(folder / "unused"))


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``attparse demo``, made once; it must not be changed."""
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("finished") / "demo"
    assert cli.main(["demo", f"--output={folder}"]) == 0
    return folder


_FOUND: dict[tuple[str, bytes], DetectedFace | DetectionFailure] = {}


@pytest.fixture(scope="module")
def faces_found_once() -> Iterator[None]:
    """Search an image once per hints, however many runs there are: for tests of what is not detection."""
    real = FallbackChain.find

    def find(self: FallbackChain, image: DecodedImage, row: ImageRow) -> DetectedFace | DetectionFailure:
        key = (str(row), hashlib.sha256(image.pixels.tobytes()).digest())
        if key not in _FOUND:
            _FOUND[key] = real(self, image, row)
        return _FOUND[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FallbackChain, "find", find)
        yield
