"""The landmarks of a former run, out of its manifests (``--landmarks OUT``)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

import pyarrow as pa
from tqdm import tqdm

from pipeline import storage
from pipeline.errors import InputError
from pipeline.formats.manifest import landmark_rows, read_manifest_file
from pipeline.formats.run_folder import MANIFEST, MANIFEST_SUFFIX
from pipeline.records import FloatRows
from pipeline.vocabulary import WEAK_SOURCES, WRITTEN
from regions.landmarks import NUM_LANDMARKS

COLUMN_TYPES = {
    "image_id": pa.string(),
    "status": pa.string(),
    "landmark_source": pa.string(),
    "landmarks": pa.list_(pa.float32(), 2 * NUM_LANDMARKS),
}
"""The columns of a manifest that are read here."""


def manifests_among(names: Sequence[str]) -> list[str]:
    """Return the manifests among the files of a run's folder, or of its manifest folder."""
    return [name for name in names if name.endswith(MANIFEST_SUFFIX) and posixpath.dirname(name) in ("", MANIFEST)]


def read_former_landmarks(folder: str, names: Sequence[str]) -> Iterator[tuple[str, FloatRows]]:
    """Yield image ids and landmarks ``(68, 2)`` out of the manifests of a run.

    Images that were rejected are left out, and those with landmarks of a weak landmark_source: both are tried again.

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
            table = read_manifest_file(path, list(COLUMN_TYPES))
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: {str(error).splitlines()[0]}, expected a manifest of attparse") from None
        if {field.name: field.type for field in table.schema} != COLUMN_TYPES:
            raise InputError(f"{path}: columns {str(table.schema.names)[:60]}, expected a manifest of attparse")
        columns = (table[name].to_pylist() for name in ("image_id", "status", "landmark_source"))
        for image_id, status, landmark_source, found in zip(*columns, landmark_rows(table), strict=True):
            if status == WRITTEN and landmark_source not in WEAK_SOURCES:
                yield image_id, found
