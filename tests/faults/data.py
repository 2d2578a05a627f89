"""The data set that the campaigns use: small images with a face, a damaged one, a missing one, one without a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from regions.landmarks import round_landmarks
from tests.faces import face
from tests.synthetic import SMALL_TABLE, jpeg_file

ATTRIBUTES = ("Bald", "Big_Nose", "Young")
GOOD = 20
"""Images with a face."""
HEIGHT, WIDTH = 250, 200
MISSING, DAMAGED, UNLABELLED = "missing.jpg", "damaged.jpg", "unlabelled.jpg"
IMAGE_IDS = frozenset([*(f"{index:06}.jpg" for index in range(GOOD)), MISSING, DAMAGED, UNLABELLED])


class Data:
    """The files of the data set, and the folders of what undisturbed commands make of it.

    Parameters
    ----------
    folder : Path
        Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images, self.labels = folder / "images", folder / "labels.csv"
        self.landmarks, self.table = folder / "landmarks.csv", folder / "table.toml"
        self.partition = folder / "partition.txt"

    def undisturbed_output(self, command: str) -> Path:
        """Return the folder of a command's undisturbed output."""
        return self.folder / f"undisturbed_{command}"


def write_data(data: Data) -> None:
    """Write the images and the files about them."""
    data.images.mkdir()
    names = [f"{index:06}.jpg" for index in range(GOOD)]
    for index, name in enumerate([*names, UNLABELLED]):
        (data.images / name).write_bytes(jpeg_file(seed=index, height=HEIGHT, width=WIDTH))
    (data.images / DAMAGED).write_bytes(jpeg_file(seed=99, height=HEIGHT, width=WIDTH)[:800])
    listed = [*names, DAMAGED, MISSING]
    rows = [f"{name},{index & 1},{index >> 1 & 1},{index >> 2 & 1}" for index, name in enumerate(listed)]
    data.labels.write_text("\n".join([f"image_id,{','.join(ATTRIBUTES)}", *rows]) + "\n")
    data.partition.write_text("".join(f"{name} {int(index % 3 == 0)}\n" for index, name in enumerate(listed)))
    data.landmarks.write_text(landmark_csv(names))
    data.table.write_text(SMALL_TABLE)


def landmark_csv(names: Sequence[str]) -> str:
    """Return a table of landmarks for images with a face."""
    columns = [f"{axis}_{index}" for axis in "xy" for index in range(68)]
    lines = [",".join(["image_name", *columns])]
    for index, name in enumerate(names):
        points = round_landmarks(face(x=100, y=120, eye_distance=30, angle=index % 20 - 10))
        lines.append(",".join([name, *(f"{value:.6f}" for value in points.T.ravel())]))
    return "\n".join(lines) + "\n"
