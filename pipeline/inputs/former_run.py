"""The landmarks of a former run, from its manifests (``--landmarks OUT``)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import ClassVar

from tqdm import tqdm

from pipeline import storage
from pipeline.errors import InputError, ShardError
from pipeline.formats.manifest import landmark_rows, read_manifest_file
from pipeline.formats.run_folder import MANIFEST, MANIFEST_SUFFIX
from pipeline.inputs.landmark_reader import LandmarkPath, ListedImages, of_listed_images
from pipeline.records import FloatRows
from pipeline.vocabulary import WEAK_SOURCES, WRITTEN
from regions.landmarks import FloatArray

COLUMNS = ["image_id", "status", "landmark_source", "landmarks"]
"""The columns of a manifest that are read."""


class FormerRunReader:
    """Reads the manifests in the folder of a run or in its manifest folder, or one manifest."""

    description: ClassVar[str] = "the folder or a manifest of a former run"
    suffix: ClassVar[str | None] = None

    def recognizes(self, path: LandmarkPath) -> bool:
        """Return whether the path is a manifest, or a folder that has some."""
        return bool(manifests_among(path.names))

    def read(self, path: LandmarkPath, images: ListedImages) -> Iterator[tuple[str, FloatArray]]:
        """Yield the ids of images of the run and their landmarks ``(68, 2)``."""
        return of_listed_images(path.path, read_former_landmarks(path.folder, manifests_among(path.names)), images)


def manifests_among(names: Sequence[str]) -> list[str]:
    """Return the manifests among the files of a run's folder, or of its manifest folder."""
    return [name for name in names if name.endswith(MANIFEST_SUFFIX) and posixpath.dirname(name) in ("", MANIFEST)]


def read_former_landmarks(folder: str, names: Sequence[str]) -> Iterator[tuple[str, FloatRows]]:
    """Yield image ids and landmarks ``(68, 2)`` from the manifests of a run.

    Rejected images and landmarks of a weak source are skipped, so that the new run tries these images again.

    Parameters
    ----------
    folder : str
    names : sequence of str
        Manifests in the folder.

    Raises
    ------
    InputError
        If a file is not the manifest of a run.
    """
    for name in tqdm(names, unit=" manifests", desc="landmarks", disable=len(names) < 2):
        path = storage.join(folder, name)
        try:
            table = read_manifest_file(path, COLUMNS)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}, expected a manifest of attparse") from None
        except ShardError as error:
            raise InputError(str(error)) from None
        columns = (table[name].to_pylist() for name in ("image_id", "status", "landmark_source"))
        for image_id, status, landmark_source, found in zip(*columns, landmark_rows(table), strict=True):
            if status == WRITTEN and landmark_source not in WEAK_SOURCES:
                yield image_id, found
