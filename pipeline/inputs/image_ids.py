"""Image ids: which file names are images, which ids are safe to open, and the sample key of each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_KEY_LENGTH = 72
"""With a hash and the longest ending, a member name has at most 100 bytes, the limit of a tar header."""


def is_image_name(name: str) -> bool:
    """Return whether a file name has the suffix of an image.

    >>> is_image_name("sub/A.JPG"), is_image_name("notes.txt")
    (True, False)
    """
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_unsafe(image_id: str) -> bool:
    """Return whether an id is anything but a plain relative path below the image folder.

    >>> is_unsafe("sub/a.jpg"), is_unsafe("../a.jpg"), is_unsafe("gs://bucket/a.jpg")
    (False, True, True)
    """
    parts = image_id.split("/")
    return (
        any(part in ("", ".", "..") for part in parts)
        or "\\" in image_id
        or "://" in image_id
        or any(not character.isprintable() for character in image_id)
    )


def sample_keys(image_ids: Sequence[str]) -> list[str]:
    """Return the sample key of each image: its id without the suffix, in letters, digits, - and _.

    A key gets a hash of the id where several ids would share it, where it is too long, and where it
    already ends like a hash, so that it cannot collide with a hashed one.

    >>> sample_keys(["000001.jpg", "sub folder/a.b.png"])
    ['000001', 'sub_folder_a_b']
    """
    keys = [re.sub(r"[^A-Za-z0-9_-]", "_", re.sub(r"\.[^./]*$", "", image_id)) for image_id in image_ids]
    seen: set[str] = set()
    shared: set[str] = set()
    for key in keys:
        (shared if key in seen else seen).add(key)
    return [
        f"{key[:MAX_KEY_LENGTH]}-{hashlib.sha256(image_id.encode()).hexdigest()[:16]}"
        if key in shared or len(key) > MAX_KEY_LENGTH or re.fullmatch("(.*-[0-9a-f]{16})?", key)
        else key
        for key, image_id in zip(keys, image_ids, strict=True)
    ]
