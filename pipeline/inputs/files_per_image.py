"""Formats with one file for each image: which image each file is of, and reading the files in parallel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from pipeline import storage
from pipeline.errors import InputError
from pipeline.inputs.image_names import known_spellings
from pipeline.inputs.landmark_reader import LandmarkPath, ListedImages, bare_name, log_unlisted, read_text

NUM_THREADS = 16
"""Files read in parallel, as object stores and network drives are slow to answer."""
FILES_IN_MEMORY = 256

Parsed = TypeVar("Parsed")


def parsed_files(
    path: LandmarkPath, suffix: str, images: ListedImages, parse: Callable[[str, str], Parsed]
) -> Iterator[tuple[str, Parsed]]:
    """Yield the ids of images of the run and their parsed files.

    Parameters
    ----------
    path : LandmarkPath
        A file, or a folder in which the files with the suffix are read.
    suffix : str
    images : ListedImages
    parse : callable
        Takes the text of a file and its path, for messages.

    Raises
    ------
    InputError
        If a file can't be used, or no file is of an image of the label file.
    """
    names = path.files(suffix) if path.is_folder else list(path.names)
    matches = match_files(path.folder, names, images.names.label_ids)
    if not matches:  # an error in a file's content explains more than its name
        file = storage.join(path.folder, names[0])
        parse(read_text(file), file)
    log_unlisted(path.path, [name for name in names if name not in matches], "file", len(names), images)
    wanted = [
        (image_id, storage.join(path.folder, name)) for name, image_id in matches.items() if image_id in images.rows
    ]
    with (
        ThreadPoolExecutor(NUM_THREADS) as pool,
        tqdm(total=len(wanted), unit=" files", desc="landmarks", disable=len(wanted) < 2) as bar,
    ):
        for start in range(0, len(wanted), FILES_IN_MEMORY):
            batch = wanted[start : start + FILES_IN_MEMORY]
            texts = pool.map(read_text, [file for _, file in batch])
            for (image_id, file), text in zip(batch, texts, strict=True):
                parsed = parse(text, file)
                bar.update()
                yield image_id, parsed


def match_files(folder: str, names: Sequence[str], image_ids: Iterable[str]) -> dict[str, str]:
    """Return which image each file is of.

    A file is of the image that has the same relative path without the suffix; otherwise of the
    image that has the same name without the suffix, in whatever folders the two are. But if any file
    is in the same folder as its image, the other files in folders are matched by path alone. Names
    that are not of any image may differ from one in case or Unicode form (`known_spellings`).

    Parameters
    ----------
    folder : str
        For messages.
    names : sequence of str
        Relative paths of the files below the folder.
    image_ids : iterable of str

    Returns
    -------
    dict of str to str
        The image id of each file that is of an image.

    Raises
    ------
    InputError
        If a file matches two images, or an image has two files.
    """
    by_path = _grouped((os.path.splitext(image_id)[0], image_id) for image_id in image_ids)
    by_name = _grouped((bare_name(key), image_id) for key, ids in by_path.items() for image_id in ids)
    keys = {name: os.path.splitext(name)[0] for name in names}
    paths = known_spellings(keys.values(), by_path)
    bare_names = known_spellings([bare_name(key) for key in keys.values()], by_name)
    keys = {name: key if key in by_name else paths.get(key, key) for name, key in keys.items()}
    same_folders = any("/" in key and key in by_path for key in keys.values())
    matches: dict[str, str] = {}
    file_of: dict[str, str] = {}
    for name, key in keys.items():
        ids = by_path.get(key)
        if ids is None and not (same_folders and "/" in key):
            bare = bare_name(key)
            ids = by_name.get(bare_names.get(bare, bare))
        if ids is None:
            continue
        file = storage.join(folder, name)
        if len(ids) > 1:
            raise InputError(f"{file}: matches the images {ids[0]!r} and {ids[1]!r}, expected one image of this name")
        if ids[0] in file_of:
            raise InputError(f"{file}: second file of image {ids[0]!r} (first is {file_of[ids[0]]!r}), expected one")
        matches[name], file_of[ids[0]] = ids[0], name
    return matches


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, image_id in pairs:
        groups.setdefault(key, []).append(image_id)
    return groups
