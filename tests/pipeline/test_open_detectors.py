"""Opening and closing the detectors of the fallback chain."""

from __future__ import annotations

import importlib.metadata
import re
from types import SimpleNamespace

import pytest

import pipeline
from pipeline.detection import mediapipe_detectors
from pipeline.detection.fallback_chain import FallbackChain
from pipeline.errors import RunError
from pipeline.records import DetectorSettings
from tests.faces import face
from tests.fake_detectors import FakeDlib, FakeFaces, FakeMesh, box_about, chart, hinted_row

IMAGE = chart()
FACE = face(x=120, y=110, eye_distance=40)


@pytest.fixture
def opened(monkeypatch):
    """Put fake detectors where the real ones are opened; return the names of those that are."""
    names = []

    def opens(name, detector):
        return lambda *arguments: names.append((name, *arguments)) or detector

    monkeypatch.setattr(mediapipe_detectors, "open_mesh_detector", opens("mesh", FakeMesh(IMAGE, [FACE])))
    monkeypatch.setattr(mediapipe_detectors, "open_face_detector", opens("faces", FakeFaces(IMAGE, [])))
    detect_dlib = SimpleNamespace(DlibLandmarks=opens("dlib", FakeDlib(FACE)))
    monkeypatch.setattr(pipeline, "detect_dlib", detect_dlib, raising=False)
    return names


def test_detectors_are_opened_when_they_are_needed_and_once(opened):
    chain = FallbackChain(DetectorSettings(("mediapipe", "dlib"), "a.task", "a.dat"))
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
def test_all_detectors_of_the_settings_can_be_opened_at_once(opened, names, expected):
    FallbackChain(DetectorSettings(names)).open()
    assert opened == expected


def test_only_what_was_opened_is_closed(opened):
    chain = FallbackChain(DetectorSettings(("mediapipe", "dlib")))
    chain.close()
    assert opened == []
    chain.find(IMAGE, hinted_row(box=box_about(FACE)))
    chain.close()
    assert opened == [("mesh", None)]
    assert chain._mesh.closed
    other = FallbackChain(DetectorSettings(("mediapipe", "dlib")))
    other.open()
    other.close()
    assert other._mesh.closed and other._faces.closed


def test_a_worker_with_another_mediapipe_is_told_so():
    installed = importlib.metadata.version("mediapipe")
    FallbackChain(DetectorSettings(versions={"mediapipe": installed, "landmarker": "abc"}))
    FallbackChain(DetectorSettings(("dlib",), versions={"dlib": "20.0"}))
    with pytest.raises(RunError, match=f"has mediapipe {re.escape(installed)}, expected 0.1, as where the run was"):
        FallbackChain(DetectorSettings(versions={"mediapipe": "0.1"}))
