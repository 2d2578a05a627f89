"""The detectors of a run: what the fallback chain uses of them, and how they are opened on demand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.detection.landmark_map import SeenFace
from pipeline.detection.patches import FaceSquare
from pipeline.records import DetectorSettings
from regions.landmarks import FloatArray

MEDIAPIPE, DLIB = "mediapipe", "dlib"
DETECTORS = (MEDIAPIPE, DLIB)


class LandmarkDetector(Protocol):
    """Finds the landmarks of all faces in an image."""

    def find(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        """Return the landmarks ``(68, 2)`` of each face, in pixels of the RGB image `pixels` ``(rows, cols, 3)``."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


class FaceModel(Protocol):
    """Reads the landmarks off a patch that shows one upright face."""

    def see(self, pixels: npt.NDArray[np.uint8]) -> SeenFace | None:
        """Return the face in the RGB image `pixels` ``(rows, cols, 3)``, in its pixels; None if there is none."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


class FaceFinder(Protocol):
    """Finds where all faces in an image are, without their landmarks."""

    def find(self, pixels: npt.NDArray[np.uint8]) -> list[FaceSquare]:
        """Return the square about each face, in pixels of the RGB image `pixels` ``(rows, cols, 3)``."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


class FaceDetector(Protocol):
    """Finds the bounding boxes of all faces in an image."""

    def find(self, pixels: npt.NDArray[np.uint8]) -> list[FloatArray]:
        """Return x, y, width, height of each face, in pixels of the RGB image `pixels` ``(rows, cols, 3)``."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


Opened = TypeVar("Opened", bound=LandmarkDetector | FaceDetector | FaceFinder | FaceModel | None)


class Detectors:
    """The detectors of a fallback chain; each one is opened when it is first used.

    Parameters
    ----------
    names : tuple of str
        Those of `DETECTORS` to use, in the order in which they are tried.
    open_mesh, open_faces : callable
        Open MediaPipe's landmark detector, and its full-range face detector.
    open_face_finder, open_landmark_model : callable
        Open the two parts of the landmark detector: its search for faces, and its landmark model.
        These and `open_faces` return None where the installed release has no such part.
    open_dlib : callable
        Opens dlib's landmark detector.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        *,
        open_mesh: Callable[[], LandmarkDetector],
        open_faces: Callable[[], FaceDetector | None],
        open_face_finder: Callable[[], FaceFinder | None],
        open_landmark_model: Callable[[], FaceModel | None],
        open_dlib: Callable[[], LandmarkDetector],
    ) -> None:
        self.names = names
        self._open_mesh, self._open_faces, self._open_dlib = open_mesh, open_faces, open_dlib
        self._open_landmark_model, self._open_face_finder = open_landmark_model, open_face_finder
        self._opened: list[LandmarkDetector | FaceDetector | FaceFinder | FaceModel] = []

    @functools.cached_property
    def mesh(self) -> LandmarkDetector:
        """The landmark detector of MediaPipe."""
        return self._kept(self._open_mesh())

    @functools.cached_property
    def faces(self) -> FaceDetector | None:
        """The face detector of MediaPipe, None where the installed release has none."""
        return self._kept(self._open_faces())

    @functools.cached_property
    def face_finder(self) -> FaceFinder | None:
        """The search for faces of MediaPipe's landmark detector alone; None where there is none."""
        return self._kept(self._open_face_finder())

    @functools.cached_property
    def landmark_model(self) -> FaceModel | None:
        """The landmark model of MediaPipe alone, for patches that show one upright face; None where there is none."""
        return self._kept(self._open_landmark_model())

    @functools.cached_property
    def dlib(self) -> LandmarkDetector:
        """The landmark detector of dlib."""
        return self._kept(self._open_dlib())

    def _kept(self, opened: Opened) -> Opened:
        """Return what has just been opened, if anything, and close it with the others."""
        if opened is not None:
            self._opened.append(opened)
        return opened

    def close(self) -> None:
        """Free the detectors that have been opened."""
        while self._opened:
            self._opened.pop().close()


def open_detectors(settings: DetectorSettings) -> Detectors:
    """Return the detectors that the settings name; libraries and models are loaded at their first use."""
    return Detectors(
        settings.names,
        open_mesh=lambda: _open_mesh(settings.landmarker),
        open_faces=_open_faces,
        open_face_finder=lambda: _open_face_finder(settings.landmarker),
        open_landmark_model=lambda: _open_landmark_model(settings.landmarker),
        open_dlib=lambda: _open_dlib(settings.dlib_model),
    )


def _open_mesh(landmarker: str | None) -> LandmarkDetector:
    from pipeline.detection import mediapipe_detectors  # noqa: PLC0415 - takes a second

    return mediapipe_detectors.open_mesh_detector(landmarker)


def _open_faces() -> FaceDetector | None:
    from pipeline.detection import mediapipe_detectors  # noqa: PLC0415 - takes a second

    return mediapipe_detectors.open_face_detector()


def _open_face_finder(landmarker: str | None) -> FaceFinder | None:
    from pipeline.detection import mediapipe_detectors  # noqa: PLC0415 - takes a second

    return mediapipe_detectors.open_face_finder(landmarker)


def _open_landmark_model(landmarker: str | None) -> FaceModel | None:
    from pipeline.detection import mediapipe_detectors  # noqa: PLC0415 - takes a second

    return mediapipe_detectors.open_landmark_model(landmarker)


def _open_dlib(model: str | None) -> LandmarkDetector:
    from pipeline.detection import dlib_detector  # noqa: PLC0415 - an extra

    return dlib_detector.DlibLandmarks(model)
