"""Reading landmarks made elsewhere (``--landmarks``): tables, OpenFace's output, iBUG's .pts files."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pipeline import storage
from pipeline.errors import InputError
from pipeline.inputs import text_tables
from pipeline.inputs.former_run import manifests_among, read_former_landmarks
from pipeline.inputs.openface import LANDMARK_COLUMNS, choose_face, is_openface, parse_faces
from pipeline.inputs.pts import parse_pts
from pipeline.records import FloatRows
from regions.landmarks import NUM_LANDMARKS, FloatArray

log = logging.getLogger("attparse")

CSV, PTS = ".csv", ".pts"
LONGEST_HEADER = 1 << 20
READERS = 16
"""Files read at the same time, for the sake of object stores and network drives."""
FILES_AT_ONCE = 256
"""How many files' texts are held in memory."""

Parser = Callable[[str, str, str], FloatArray | None]
"""Takes a file's text, its path and its image id; returns the landmarks, if there are any."""


class _Images(NamedTuple):
    """The images of a run: the row of each id, the ids of the label file, and what is known of the faces."""

    rows: Mapping[str, int]
    label_ids: Sequence[str]
    bboxes: FloatRows
    points: FloatRows

    def hints(self, image_id: str) -> tuple[FloatArray | None, FloatArray | None]:
        """Return the face box ``(4,)`` and the five points ``(5, 2)`` of an image, None where unknown."""
        row = self.rows[image_id]
        bbox, points = self.bboxes[row].astype(np.float64), self.points[row].astype(np.float64)
        return (None if np.isnan(bbox).any() else bbox), (None if np.isnan(points).any() else points)


def read_landmarks(
    paths: Sequence[str],
    image_ids: Sequence[str],
    bboxes: FloatRows,
    points: FloatRows,
    label_ids: Sequence[str] | None = None,
) -> FloatRows:
    """Read given landmarks; where two paths name an image, the later one counts.

    A path is a table of all images (see `read_landmark_csv`), one CSV file of OpenFace or a folder
    of them, or one .pts file or a folder of them. Files are tied to images by their names: see
    `match_files`. Of several faces that OpenFace found, the one that agrees with the five points or
    the face box counts; if none does, the image has no landmarks of this path.

    Parameters
    ----------
    paths : sequence of str
        Files or folders, local or remote.
    image_ids : sequence of str
    bboxes : ndarray (n, 4)
        Face boxes x, y, width, height in pixels of the source image; not a number where unknown.
    points : ndarray (n, 5, 2)
        Five points in pixels of the source image; not a number where unknown.
    label_ids : sequence of str, optional
        All ids of the label file, where `image_ids` is only a part of them: tells landmarks of
        images that are left out from landmarks of other data.

    Returns
    -------
    ndarray (n, 68, 2) float32
        In pixels of the source image; not a number where not given. Without paths (n, 0, 2).

    Raises
    ------
    InputError
        If a file can't be used, or a path has landmarks of no image of the label file.
    """
    if not paths:
        return np.full((len(image_ids), 0, 2), np.nan, dtype=np.float32)
    landmarks = np.full((len(image_ids), NUM_LANDMARKS, 2), np.nan, dtype=np.float32)
    rows = {image_id: row for row, image_id in enumerate(image_ids)}
    images = _Images(rows, image_ids if label_ids is None else label_ids, bboxes, points)
    for path in paths:
        for image_id, found in _landmarks_of(path, images):
            landmarks[rows[image_id]] = found
    return landmarks


def read_landmark_csv(path: str) -> dict[str, FloatRows]:
    """Read the layout of AttParseNet's authors: image_name, x_0 to x_67, y_0 to y_67."""
    return dict(_table_rows(path))


def match_files(folder: str, names: Sequence[str], image_ids: Iterable[str]) -> dict[str, str]:
    """Tell which image each file is of.

    A file is of the image that has the same path but for the ending; else of the image that has its
    bare name, wherever the two lie. But where files lie in the same folders as the images, one in
    another folder is of no image.

    Parameters
    ----------
    folder : str
        For messages.
    names : sequence of str
        Paths of the files below the folder.
    image_ids : iterable of str

    Returns
    -------
    dict of str to str
        The image id of each file that is of an image.

    Raises
    ------
    InputError
        If a file may be of two images, or an image has two files.
    """
    by_path = _grouped((os.path.splitext(image_id)[0], image_id) for image_id in image_ids)
    by_name = _grouped((_bare(key), image_id) for key, ids in by_path.items() for image_id in ids)
    keys = {name: os.path.splitext(name)[0] for name in names}
    same_folders = any("/" in key and key in by_path for key in keys.values())
    matches: dict[str, str] = {}
    file_of: dict[str, str] = {}
    for name, key in keys.items():
        ids = by_path.get(key)
        if ids is None and not (same_folders and "/" in key):
            ids = by_name.get(_bare(key))
        if ids is None:
            continue
        path = storage.join(folder, name)
        if len(ids) > 1:
            raise InputError(f"{path}: may be of image {ids[0]!r} or {ids[1]!r}, expected one image of this name")
        if ids[0] in file_of:
            raise InputError(f"{path}: image {ids[0]!r} has a file already, {file_of[ids[0]]!r}")
        matches[name], file_of[ids[0]] = ids[0], name
    return matches


def _bare(key: str) -> str:
    return key.rpartition("/")[2]


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, image_id in pairs:
        groups.setdefault(key, []).append(image_id)
    return groups


def _landmarks_of(path: str, images: _Images) -> Iterator[tuple[str, FloatArray]]:
    """Return image ids and the landmarks that a path has for them."""
    if _is_folder(path):
        names = sorted(storage.list_files(path))
        if manifests := manifests_among(names):
            return _of_labelled(path, read_former_landmarks(path, manifests), images)
        folder, names = path, _landmark_files(path, names)
    else:
        folder, name = os.path.split(path)
        names = [name]
        if manifests_among(names):
            return _of_labelled(path, read_former_landmarks(folder, names), images)
        if not _is_pts(name):
            header = _first_line(path)
            if not is_openface(header):
                _check_header(path, header)
                return _of_labelled(path, _table_rows(path), images)
    if _is_pts(names[0]):
        return _from_files(path, folder, names, images, lambda text, file, _: parse_pts(text, file))
    return _from_openface(path, folder, names, images)


def _is_pts(name: str) -> bool:
    return name.lower().endswith(PTS)


def _is_folder(path: str) -> bool:
    """Tell a folder; in an object store, what is no object."""
    if not storage.is_remote(path):
        return os.path.isdir(path)
    with storage.explained(path):
        return path.endswith("/") or not storage.exists(path)


def _landmark_files(folder: str, names: Sequence[str]) -> list[str]:
    """Return the CSV or .pts files among the names; other files, and hidden ones, are left out."""
    found = {
        ending: [name for name in names if name.lower().endswith(ending) and not _bare(name).startswith(".")]
        for ending in (CSV, PTS)
    }
    if bool(found[CSV]) == bool(found[PTS]):
        raise InputError(
            f"{folder}: {len(found[CSV])} CSV files and {len(found[PTS])} .pts files,"
            " expected either CSV files of OpenFace or .pts files, one for each image"
        )
    return found[CSV] or found[PTS]


def _check_header(path: str, header: str) -> None:
    first = header.partition(",")[0].strip()
    if first not in text_tables.ID_COLUMNS and not header.strip().isdecimal():
        raise InputError(
            f"{path}:1: {header.strip()[:60]!r}, expected a table of all images (image_name, x_0 to x_67, y_0 to y_67)"
            " or a CSV file of OpenFace (face, confidence, ... x_0 to x_67, y_0 to y_67)"
        )


def _of_labelled(
    path: str, rows: Iterable[tuple[str, FloatArray]], images: _Images
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the rows of the run's images; tell how many are of no image of the label file."""
    labeled = set(images.label_ids)
    num_rows, others = 0, []
    for image_id, landmarks in rows:
        num_rows += 1
        if image_id not in labeled:
            others.append(image_id)
        elif image_id in images.rows:
            yield image_id, landmarks
    if others:
        _tell_others(path, others, "rows", num_rows, images)


def _table_rows(path: str) -> Iterator[tuple[str, FloatRows]]:
    table = text_tables.read_table(path)
    absent = [name for name in LANDMARK_COLUMNS if name not in table.columns]
    if absent:
        raise InputError(f"{path}:1: no column {absent[0]!r}, expected image_name, x_0 to x_67, y_0 to y_67")
    columns = [table.columns.index(name) for name in LANDMARK_COLUMNS]
    for row in table.rows:
        values = np.array(text_tables.numbers(table, row, columns), dtype=np.float32)
        yield row.image_id, values.reshape(2, NUM_LANDMARKS).T


def _from_openface(path: str, folder: str, names: Sequence[str], images: _Images) -> Iterator[tuple[str, FloatArray]]:
    without: Counter[bool] = Counter()

    def parse(text: str, file: str, image_id: str) -> FloatArray | None:
        faces = parse_faces(text, file)
        face = choose_face(faces, *images.hints(image_id))
        if face is None:
            without[bool(len(faces.landmarks))] += 1
        return face

    yield from _from_files(path, folder, names, images, parse)
    if without:
        log.info(
            "%s: %d files without a face, %d without one that agrees with the five points or the face box:"
            " these images are left to the detectors",
            path,
            without[False],
            without[True],
        )


def _from_files(
    path: str, folder: str, names: Sequence[str], images: _Images, parse: Parser
) -> Iterator[tuple[str, FloatArray]]:
    matches = match_files(folder, names, images.label_ids)
    others = [name for name in names if name not in matches]
    if not matches:  # what a file of another kind says of itself tells more than its name
        file = storage.join(folder, names[0])
        (parse_pts if _is_pts(file) else parse_faces)(_read_text(file), file)
    if others:
        _tell_others(path, others, "files", len(names), images)
    wanted = [(storage.join(folder, name), image_id) for name, image_id in matches.items() if image_id in images.rows]
    with (
        ThreadPoolExecutor(READERS) as pool,
        tqdm(total=len(wanted), unit=" files", desc="landmarks", disable=len(wanted) < 2) as bar,
    ):
        for start in range(0, len(wanted), FILES_AT_ONCE):
            batch = wanted[start : start + FILES_AT_ONCE]
            for (file, image_id), text in zip(batch, pool.map(_read_text, [file for file, _ in batch]), strict=True):
                found = parse(text, file, image_id)
                bar.update()
                if found is not None:
                    yield image_id, found


def _tell_others(path: str, others: Sequence[str], found: str, number: int, images: _Images) -> None:
    """Tell how many of the files or rows found are of no image; that all are is an error."""
    if len(others) == number:
        raise InputError(
            f"{path}: none of its {number} {found} is of an image of the label file:"
            f" {others[0]!r}, expected names such as {images.label_ids[0]!r}"
        )
    log.info("%s: %d of %d %s are of no image of the label file and are left out", path, len(others), number, found)


def _first_line(path: str) -> str:
    with _as_text(path), storage.open_read(path) as stream:
        return stream.readline(LONGEST_HEADER).decode("utf-8-sig")


def _read_text(path: str) -> str:
    with _as_text(path):
        return storage.read_bytes(path).decode("utf-8-sig")


@contextlib.contextmanager
def _as_text(path: str) -> Iterator[None]:
    """Turn what can go wrong with reading a file of text into an InputError that names it."""
    try:
        with storage.explained(path):
            yield
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start : error.start + 1]
        raise InputError(f"{path}:{line}: {byte!r}, expected UTF-8 text") from None
