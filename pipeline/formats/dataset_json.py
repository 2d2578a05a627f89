"""dataset.json, the contract between a run and its readers: where it lies, and reading it."""

from __future__ import annotations

import json
from typing import Any

from pipeline import storage
from pipeline.building.plan import FORMAT_VERSION
from pipeline.records import InputError

DATASET_FILE = "dataset.json"


def dataset_path(output: str) -> str:
    """Return where the contract for readers lies."""
    return storage.join(output, DATASET_FILE)


def read_dataset_file(output: str) -> dict[str, Any]:
    """Return the content of the dataset.json of a finished run.

    Parameters
    ----------
    output : str
        Folder of the run, local or remote.

    Raises
    ------
    InputError
        If there is none, or it is of another format.
    """
    path = dataset_path(output)
    try:
        document = json.loads(storage.read_bytes(path))
    except OSError as error:
        if not storage.exists(output):
            raise InputError(f"{output}: no such folder") from None
        if not storage.exists(path):
            raise InputError(f"{output}: no {DATASET_FILE}, expected the folder of a finished run") from None
        raise InputError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: format_version is {version!r}, expected {FORMAT_VERSION}")
    return dict(document)
