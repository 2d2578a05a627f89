"""Opening the detectors of the settings when they are first used, and closing them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import detection
from pipeline.detection import mediapipe_detectors
from pipeline.detection.detectors import open_detectors
from pipeline.detection.fallback_chain import FallbackChain
from pipeline.records import DetectorSettings
from tests.faces import face
from tests.fake_detectors import FakeDlib, FakeFaces, FakeMesh, box_about, chart, hinted_row

IMAGE = chart()
FACE = face(x=120, y=110, eye_distance=40)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, ...]]:
    """Put fake detectors where the real ones are opened; return the calls that open them."""
    calls = []

    def opens(name: str, detector: object) -> Callable[..., object]:
        def opened_now(*arguments: str | None) -> object:
            calls.append((name, *arguments))
            return detector

        return opened_now

    monkeypatch.setattr(mediapipe_detectors, "open_mesh_detector", opens("mesh", FakeMesh(IMAGE, [FACE])))
    monkeypatch.setattr(mediapipe_detectors, "open_face_detector", opens("faces", FakeFaces(IMAGE, [])))
    monkeypatch.setattr(mediapipe_detectors, "open_face_finder", opens("face finder", None))
    monkeypatch.setattr(mediapipe_detectors, "open_landmark_model", opens("landmark model", None))
    dlib_detector = SimpleNamespace(DlibLandmarks=opens("dlib", FakeDlib()))
    monkeypatch.setattr(detection, "dlib_detector", dlib_detector, raising=False)
    return calls


def test_detectors_are_opened_when_they_are_needed_and_once(opened: list[tuple[str | None, ...]]) -> None:
    chain = FallbackChain(open_detectors(DetectorSettings(("mediapipe", "dlib"), "a.task", "a.dat")))
    chain.find(IMAGE, hinted_row(given=FACE))
    assert opened == []
    for _ in range(2):
        chain.find(IMAGE, hinted_row(box=box_about(FACE)))
    assert opened == [("mesh", "a.task")]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("mediapipe",), [("mesh", None), ("faces",)]),
        (("dlib",), [("dlib", None)]),
        (("dlib", "mediapipe"), [("dlib", None), ("mesh", None), ("faces",)]),
    ],
)
def test_a_face_that_none_finds_opens_all_detectors_of_the_settings(
    opened: list[tuple[str | None, ...]], names: tuple[str, ...], expected: list[tuple[str | None, ...]]
) -> None:
    chain = FallbackChain(open_detectors(DetectorSettings(names)))
    for _ in range(2):
        chain.find(IMAGE, hinted_row(box=box_about(face(x=220, y=220, eye_distance=10))))
    assert opened == expected


def test_only_what_was_opened_is_closed(opened: list[tuple[str | None, ...]]) -> None:
    detectors = open_detectors(DetectorSettings(("mediapipe", "dlib")))
    detectors.close()
    assert opened == []
    mesh: Any = detectors.mesh
    detectors.close()
    assert opened == [("mesh", None)]
    assert mesh.closed
    other = open_detectors(DetectorSettings(("mediapipe", "dlib")))
    all_of_them: tuple[Any, ...] = (other.mesh, other.faces, other.dlib)
    FallbackChain(other).close()
    assert all(detector.closed for detector in all_of_them)


IMPORT_THE_ROOM = """
import importlib, pkgutil, sys
import pipeline.detection as room
from pipeline.records import DetectorSettings
names = {module.name for module in pkgutil.iter_modules(room.__path__)} - {"mediapipe_detectors", "dlib_detector"}
for name in names:
    importlib.import_module(f"pipeline.detection.{name}")
sys.modules["pipeline.detection.detectors"].open_detectors(DetectorSettings(("mediapipe", "dlib")))
print("fallback_chain" in names, *sorted({"mediapipe", "dlib"} & set(sys.modules)))
"""


def test_no_other_file_of_the_room_loads_a_detector_before_it_is_used() -> None:
    command = [sys.executable, "-c", IMPORT_THE_ROOM]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() == ["True"]
