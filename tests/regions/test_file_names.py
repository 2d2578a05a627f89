"""Files that are not of a data set."""

from __future__ import annotations

import pytest

from regions.file_names import is_foreign


@pytest.mark.parametrize(
    "path",
    [
        ".DS_Store",
        "._000001.jpg",
        ".nfs0000000012345678000001",
        ".hidden/a.jpg",
        "sub/.ipynb_checkpoints/a-checkpoint.jpg",
        "__MACOSX/sub/a.jpg",
        "sub/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "#recycle/a.jpg",
        "$RECYCLE.BIN/a.jpg",
        "lost+found/a.jpg",
        "Thumbs.db",
        "THUMBS.DB",
        "desktop.ini",
        "Icon\r",
        ".cache/huggingface/download/README.md.lock",
        ".git",
        ".gitattributes",
        "sub/",
        "sub_$folder$",
    ],
)
def test_foreign(path: str) -> None:
    assert is_foreign(path)


@pytest.mark.parametrize(
    "path", ["a.jpg", "sub/a.b.jpg", "thumbs.db.jpg", "./a.jpg", "../a.jpg", "icon.jpg", "_a.jpg", "train-000000.tar"]
)
def test_of_a_data_set(path: str) -> None:
    assert not is_foreign(path)
