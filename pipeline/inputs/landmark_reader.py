"""What all readers of landmark files share: the path to read, the images to find, the text of a file."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from pipeline import storage
from pipeline.errors import InputError
from pipeline.inputs.image_names import KnownNames
from pipeline.records import FloatRows
from regions.landmarks import FloatArray
from regions.messages import counted

log = logging.getLogger("attparse")

MAX_HEADER = 1 << 20
"""The first line of a file is read up to this many bytes."""
MAX_TEXT = 64 << 20
"""The most bytes of a file with the landmarks of one image; OpenFace writes some 10 kB for each face."""


@dataclass(frozen=True)
class LandmarkPath:
    """A path of ``--landmarks``, a file or a folder.

    Attributes
    ----------
    path : str
        As the user gave it.
    folder : str
        The path, or the folder of the file.
    names : tuple of str
        Relative paths of all files below the folder, or the name of the file.
    is_folder : bool
    """

    path: str
    folder: str
    names: tuple[str, ...]
    is_folder: bool

    @functools.cached_property
    def header(self) -> str:
        """The first line of the file; empty for a folder."""
        return "" if self.is_folder else first_line(self.path)

    def files(self, suffix: str) -> list[str]:
        """Return the names of the visible files with a suffix, in upper or lower case."""
        return [name for name in self.names if name.lower().endswith(suffix) and not bare_name(name).startswith(".")]


@dataclass(frozen=True)
class ListedImages:
    """The images that landmarks are read for.

    Attributes
    ----------
    rows : mapping of str to int
        Row of each image of the run.
    names : KnownNames
        Of all images of the data set, of which the run may leave out some.
    bboxes : ndarray (n, 4) float32
        Face boxes x, y, width, height of the run's images in pixels; NaN where unknown.
    points : ndarray (n, 5, 2) float32
        Five points of the run's images in pixels; NaN where unknown.
    """

    rows: Mapping[str, int]
    names: KnownNames
    bboxes: FloatRows
    points: FloatRows

    def hints(self, image_id: str) -> tuple[FloatArray | None, FloatArray | None]:
        """Return the face box ``(4,)`` and the five points ``(5, 2)`` of an image, None where unknown."""
        row = self.rows[image_id]
        bbox, points = self.bboxes[row].astype(np.float64), self.points[row].astype(np.float64)
        return (None if np.isnan(bbox).any() else bbox), (None if np.isnan(points).any() else points)


class LandmarkReader(Protocol):
    """Reads one format of landmarks.

    Attributes
    ----------
    description : str
        What the reader reads, for the message about a path that none reads.
    suffix : str or None
        Of its files, if each is of one image and a folder of them is read; None if one file is of
        many images.
    """

    description: ClassVar[str]
    suffix: ClassVar[str | None]

    def recognizes(self, path: LandmarkPath) -> bool:
        """Return whether the names or the header of a path are of this format."""
        ...

    def read(self, path: LandmarkPath, images: ListedImages) -> Iterator[tuple[str, FloatArray]]:
        """Yield the ids of images of the run and their landmarks ``(68, 2)`` in pixels.

        Raises
        ------
        InputError
            If a file can't be used, or no landmarks are of an image of the label file.
        """
        ...


def of_listed_images(
    path: str, rows: Iterable[tuple[str, FloatArray | None]], images: ListedImages
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the rows of the run's images; report how many are unknown, or of no image of the label file.

    Parameters
    ----------
    path : str
        For messages.
    rows : iterable of tuple
        Image ids and landmarks, None where they are unknown.
    images : ListedImages
    """
    others: dict[str, FloatArray | None] = {}
    row_ids: list[str] = []
    num_unknown = 0
    for image_id, landmarks in rows:
        row_ids.append(image_id)
        num_unknown += landmarks is None
        if image_id not in images.names.label_ids:
            others[image_id] = landmarks if images.names.may_mean(image_id) else None
        elif landmarks is not None and image_id in images.rows:
            yield image_id, landmarks
    spellings = images.names.spellings(row_ids) if others else {}
    for other, landmarks in others.items():
        if landmarks is not None and spellings.get(other) in images.rows:
            yield spellings[other], landmarks
    unlisted = [image_id for image_id in others if spellings.get(image_id) not in images.names.label_ids]
    log_unlisted(path, unlisted, "row", len(row_ids), images)
    log_unknown(path, num_unknown, "row", len(row_ids))


def log_unknown(path: str, unknown: int, noun: str, total: int) -> None:
    """Log how many of a path's files or rows have coordinates that are blank or no numbers."""
    if unknown:
        log.info(
            "%s: %d of %s with coordinates that are blank or nan: no landmarks", path, unknown, counted(total, noun)
        )


def log_unlisted(path: str, unlisted: Sequence[str], noun: str, total: int, images: ListedImages) -> None:
    """Log how many of a path's files or rows are of no image of the label file.

    Raises
    ------
    InputError
        If all of them are.
    """
    if not unlisted:
        return
    if len(unlisted) == total:
        raise InputError(
            f"{path}: none of {counted(total, noun)} matches an image of the label file:"
            f" found {unlisted[0]!r}, expected names such as {next(iter(images.names.label_ids))!r}"
        )
    log.info("%s: skipped %d of %s, no such image in the label file", path, len(unlisted), counted(total, noun))


def bare_name(path: str) -> str:
    """Return the last part of a relative path."""
    return path.rpartition("/")[2]


def landmark_path(path: str) -> LandmarkPath:
    """Return what is at a path of ``--landmarks``, without reading a file.

    Raises
    ------
    InputError
        If a folder can't be listed.
    """
    if _is_folder(path):
        return LandmarkPath(path, path, tuple(sorted(storage.list_files(path))), is_folder=True)
    folder, name = os.path.split(path)
    return LandmarkPath(path, folder, (name,), is_folder=False)


def _is_folder(path: str) -> bool:
    """Return whether a path is a folder; in an object store, whether there is no such object."""
    if not storage.is_remote(path):
        return os.path.isdir(path)
    with storage.explained(path):
        return path.endswith("/") or not storage.exists(path)


def first_line(path: str) -> str:
    """Return the first line of a text file.

    Raises
    ------
    InputError
        If it can't be read or is not UTF-8.
    """
    with _as_text(path), storage.open_read(path) as stream:
        return stream.readline(MAX_HEADER).decode("utf-8-sig")


def read_text(path: str) -> str:
    """Return the text of a file.

    Raises
    ------
    InputError
        If it can't be read, is not UTF-8, or has more than `MAX_TEXT` bytes.
    """
    with _as_text(path):
        return storage.read_bytes(path, MAX_TEXT).decode("utf-8-sig")


@contextlib.contextmanager
def _as_text(path: str) -> Iterator[None]:
    """Turn a failure to read a text file into an InputError that names the file."""
    try:
        with storage.explained(path):
            yield
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start : error.start + 1]
        raise InputError(f"{path}:{line}: {byte!r}, expected UTF-8 text") from None
