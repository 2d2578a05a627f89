"""Accuracy on real photographs with true landmarks, where there are some.

ATTPARSE_PHOTOGRAPHS names a folder in CelebA's layout (images/, list_*_celeba.txt) with the 68 true landmarks of
each image in landmarks.csv.
"""

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.inputs.landmark_csv import read_landmark_csv
from regions.landmarks import outer_eye_distance

FOLDER = Path(os.environ.get("ATTPARSE_PHOTOGRAPHS", ""))
pytestmark = [
    pytest.mark.photographs,
    pytest.mark.skipif("ATTPARSE_PHOTOGRAPHS" not in os.environ, reason="ATTPARSE_PHOTOGRAPHS is not set"),
]


def errors(output):
    """Return the error of each written image, in shares of the outer-eye distance."""
    truth = read_landmark_csv(str(FOLDER / "landmarks.csv"))
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
    ("hints", "right", "mean"),
    [(("bboxes", "points"), 0.995, 0.036), ((), 0.99, 0.045)],
    ids=["with hints", "without hints"],
)
def test_landmarks_of_photographs(tmp_path, hints, right, mean):
    files = {"bboxes": "list_bbox_celeba.txt", "points": "list_landmarks_celeba.txt"}
    options = [f"--{hint}={FOLDER / files[hint]}" for hint in hints]
    labels = FOLDER / "list_attr_celeba.txt"
    output = tmp_path / "out"
    assert main(["run", f"--images={FOLDER / 'images'}", f"--labels={labels}", f"--output={output}", *options]) == 0
    found = errors(output)
    assert len(found) == len(list((FOLDER / "images").iterdir()))
    assert (found < 0.1).mean() >= right
    assert found.mean() <= mean
