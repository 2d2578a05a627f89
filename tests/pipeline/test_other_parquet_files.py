"""Landmarks out of Parquet files: the manifest of a run, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.errors import InputError
from pipeline.inputs.former_run import read_former_landmarks
from pipeline.records import RejectedImage, WrittenSample
from tests.faces import face
from tests.synthetic import annotated, rejected, write_output


def parquet(path: Path, **columns: object) -> None:
    pq.write_table(pa.table(columns), path)


def other_parquet_file(path: Path, kind: str) -> None:
    """Write a Parquet file that is no manifest."""
    ids = ["a.jpg", "b.jpg"]
    landmarks = pa.FixedSizeListArray.from_arrays(np.zeros(272, np.float32), 136)
    complete = {"image_id": ids, "status": ["written"] * 2, "landmark_source": ["given"] * 2, "landmarks": landmarks}
    if kind == "garbage":
        path.write_bytes(b"PAR1 and so on")
    elif kind == "truncated":
        parquet(path, **complete)
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "other columns":
        parquet(path, a=[1, 2], b=["x", "y"])
    elif kind == "texts":
        parquet(path, **complete | {"landmarks": ["x", "y"]})
    elif kind == "short lists":
        parquet(path, **complete | {"landmarks": [[1.0, 2.0], [3.0]]})
    elif kind == "landmarks of one image":
        parquet(path, **complete | {"landmarks": pa.array([[0.0] * 136, None], pa.list_(pa.float32(), 136))})
    else:
        parquet(path, **{name: values for name, values in complete.items() if name != kind.partition(" ")[2]})


@pytest.mark.parametrize(
    "kind",
    [
        *("garbage", "truncated", "other columns", "short lists", "landmarks of one image", "no landmarks"),
        *("texts", "no image_id", "no status", "no landmark_source"),
    ],
)
def test_another_parquet_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    path, labels, output = (tmp_path / name for name in ("other.parquet", "labels.csv", "out"))
    other_parquet_file(path, kind)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    labels.write_text("image_id,Smiling\na.jpg,1\nb.jpg,-1\n")
    command = [
        "run",
        f"--images={tmp_path / 'images'}",
        f"--labels={labels}",
        f"--landmarks={path}",
        f"--output={output}",
    ]
    assert main(command) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"attparse: {path}: ") and errors.endswith("expected a manifest of attparse\n")
    assert errors.count("\n") == 1
    assert not output.exists()


def test_rejected_and_weak_rows_of_a_manifest_are_left_out(tmp_path: Path) -> None:
    given = annotated(image_id="e.jpg", landmark_source="given", points=face(x=210))
    hinted = annotated(image_id="a.jpg", landmark_source="hinted_box")
    results: list[WrittenSample | RejectedImage] = [
        hinted,
        annotated(image_id="b.jpg", landmark_source="five_points"),
        rejected(image_id="c.jpg", reason="wrong_face", guess=face()),
        rejected(image_id="d.jpg"),
        given,
    ]
    write_output(tmp_path, {"train-000000": results})
    ((first, landmarks), (last, others)) = read_former_landmarks(
        str(tmp_path / "out"), ["manifest/train-000000.parquet"]
    )
    assert (first, last) == ("a.jpg", "e.jpg")
    np.testing.assert_array_equal(landmarks, hinted.landmarks)
    np.testing.assert_array_equal(others, given.landmarks)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30])
def test_landmarks_that_no_image_has_are_refused(tmp_path: Path, value: float) -> None:
    points = face()
    points[7, 1] = value
    write_output(tmp_path, {"train-000000": [annotated(image_id="a.jpg"), annotated(image_id="b.jpg")]})
    (path,) = (tmp_path / "out" / "manifest").iterdir()
    table = pq.read_table(path)
    landmarks = pa.array([face().ravel(), points.ravel()], table.schema.field("landmarks").type)
    pq.write_table(
        table.set_column(table.schema.names.index("landmarks"), table.schema.field("landmarks"), landmarks), path
    )
    with pytest.raises(InputError) as caught:
        list(read_former_landmarks(str(tmp_path / "out"), [f"manifest/{path.name}"]))
    assert str(caught.value) == (
        f"{path}: a landmark of a written image that is nan or above 1e+09, expected a manifest of attparse"
    )
