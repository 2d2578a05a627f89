"""Accuracy on real photographs with true landmarks, where there are some (see tests/local_data.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.inputs.landmark_csv import read_landmark_csv
from regions.landmarks import outer_eye_distance
from tests.local_data import PHOTOGRAPHS, SKIP_WITHOUT_PHOTOGRAPHS

LIMIT = 250
pytestmark = [pytest.mark.photographs, pytest.mark.slow, SKIP_WITHOUT_PHOTOGRAPHS]


def landmark_errors(output: Path) -> npt.NDArray[np.float64]:
    """Return the mean landmark error of each written image, as a fraction of the outer-eye distance."""
    truth = read_landmark_csv(str(PHOTOGRAPHS / "landmarks.csv"))
    tables = [
        pq.ParquetFile(file, pre_buffer=False).read(use_threads=False) for file in (output / "manifest").iterdir()
    ]
    rows = [row for table in tables for row in table.to_pylist() if row["status"] == "written"]
    return np.array(
        [
            np.linalg.norm(np.reshape(row["landmarks"], (68, 2)) - truth[row["image_id"]], axis=1).mean()
            / outer_eye_distance(truth[row["image_id"]])
            for row in rows
        ]
    )


@pytest.mark.parametrize(
    ("hints", "most_wrong", "mean"),
    [(("bboxes", "points"), 2, 0.036), ((), 2, 0.045)],
    ids=["with hints", "without hints"],
)
def test_landmarks_of_photographs(tmp_path: Path, hints: tuple[str, ...], most_wrong: int, mean: float) -> None:
    files = {"bboxes": "list_bbox_celeba.txt", "points": "list_landmarks_celeba.txt"}
    options = [f"--{hint}={PHOTOGRAPHS / files[hint]}" for hint in hints]
    options += [f"--images={PHOTOGRAPHS / 'images'}", f"--labels={PHOTOGRAPHS / 'list_attr_celeba.txt'}"]
    output = tmp_path / "out"
    assert main(["run", *options, f"--output={output}", f"--limit={LIMIT}"]) == 0
    errors = landmark_errors(output)
    assert len(errors) == min(LIMIT, len(list((PHOTOGRAPHS / "images").iterdir())))
    assert (errors >= 0.1).sum() <= most_wrong
    assert errors.mean() <= mean
