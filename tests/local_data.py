"""Data that the repository does not contain, where a machine has it.

The tests look in a folder ``shared/`` beside the checkout, or where two environment variables point:

* ``ATTPARSE_PHOTOGRAPHS``: a folder in CelebA's layout (``images/``, ``list_*_celeba.txt``) with the 68 true
  landmarks of each image in ``landmarks.csv``;
* ``ATTPARSE_LANDMARKER``: a model file of MediaPipe's Face Landmarker.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
PHOTOGRAPHS = Path(os.environ.get("ATTPARSE_PHOTOGRAPHS", SHARED / "data" / "wild68"))
LANDMARKER_FILE = Path(os.environ.get("ATTPARSE_LANDMARKER", SHARED / "models" / "face_landmarker.task"))


def skip_without(variable: str, path: Path) -> pytest.MarkDecorator:
    """Return a mark that skips tests where the default path is absent; a path that was named must exist."""
    return pytest.mark.skipif(variable not in os.environ and not path.exists(), reason=f"{variable} is not set")


SKIP_WITHOUT_PHOTOGRAPHS = skip_without("ATTPARSE_PHOTOGRAPHS", PHOTOGRAPHS)
SKIP_WITHOUT_LANDMARKER = skip_without("ATTPARSE_LANDMARKER", LANDMARKER_FILE)
