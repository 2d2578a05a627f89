"""The naive floor: every image decoded by OpenCV, and FaceMesh on all of it. It makes no crop, no mask and no file.

``python -m benchmarks.floor FILE ...`` does so and prints how many faces were found.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from dataclasses import replace

import cv2
import mediapipe
import numpy as np

from benchmarks.annotation import Annotation
from benchmarks.bench import Bench
from benchmarks.measure import cpu_seconds, quiet_stderr
from benchmarks.table import Row, median_row
from pipeline.config import RunConfig


class Floor:
    """FaceMesh with the attention model in static mode, for one face, as its documentation shows it."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)
        with quiet_stderr():
            self._mesh = mediapipe.solutions.face_mesh.FaceMesh(
                static_image_mode=True, max_num_faces=1, refine_landmarks=True
            )
            self._mesh.process(np.zeros((64, 64, 3), dtype=np.uint8))

    def faces(self, files: Iterable[str]) -> int:
        """Return in how many images a face is found."""
        pixels = (cv2.imread(file, cv2.IMREAD_COLOR_RGB) for file in files)
        return sum(self._mesh.process(image).multi_face_landmarks is not None for image in pixels if image is not None)

    def close(self) -> None:
        """Free the model."""
        self._mesh.close()


def floor_rows(bench: Bench) -> list[Row]:
    """Compare the CPU time of the whole annotation with that of the floor, by the hints that are given."""
    with contextlib.ExitStack() as stack:
        floor = stack.enter_context(contextlib.closing(Floor()))
        ways = {}
        for way, data_set in _configs(bench.data_set).items():
            config = replace(data_set, output=str(bench.scratch / "floor" / way))
            ways[way] = stack.enter_context(contextlib.closing(Annotation(config, bench.rounds)))
            ways[way].warm_up()
        with quiet_stderr():  # each part of FaceMesh prints something when it first finds a face
            floor.faces(ways["with points"].files(0))
        rounds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for index, plan in enumerate(ways["with points"].plans):
            files = ways["with points"].files(index)
            other = cpu_seconds(floor.faces, files) / len(files) * 1e3
            for way, annotation in ways.items():
                ours = cpu_seconds(annotation.build, index) / len(plan.images) * 1e3
                rounds[way].append((ours, other))
    return [median_row(f"CPU per image {way}, against OpenCV + FaceMesh", "ms", rounds[way]) for way in ways]


def _configs(data_set: RunConfig) -> dict[str, RunConfig]:
    """Return runs with the five points, with the face boxes alone, and without hints."""
    with_boxes = replace(data_set, points=None)
    return {"with points": data_set, "with boxes": with_boxes, "without hints": replace(with_boxes, bboxes=None)}


def main() -> None:
    """Find faces in the files that the command line names."""
    print(Floor().faces(sys.argv[1:]))


if __name__ == "__main__":
    main()
