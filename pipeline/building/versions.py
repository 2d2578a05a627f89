"""The versions that decide the bytes of a shard: one list, recorded in dataset.json and compared on every worker."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import get_args

from pipeline.building.encoding import ENCODING_VERSION
from pipeline.building.settings import Stage
from pipeline.detection.fallback_chain import DETECTION_VERSION
from pipeline.detection.landmark_map import MAP_VERSION
from pipeline.detection.settings import library_version
from pipeline.errors import RunError
from pipeline.images import IMAGES_VERSION
from pipeline.records import DetectorSettings
from pipeline.vocabulary import FORMAT_VERSION
from regions.crop import CROP_VERSION
from regions.masks import MASK_VERSION
from regions.outlines import RULES_VERSION
from regions.quality import QUALITY_VERSION

ALL_STAGES: frozenset[Stage] = frozenset(get_args(Stage))
CROP_STAGES: frozenset[Stage] = frozenset({"decode", "crop", "encode"})
"""What decides the bytes of a crop whose landmarks are known."""
SAMPLE_STAGES: frozenset[Stage] = CROP_STAGES | {"masks"}
"""What decides the bytes of a sample whose landmarks are known."""

STAGES_OF_VERSION: Mapping[str, frozenset[Stage]] = MappingProxyType(
    {
        "format": frozenset({"encode"}),
        "rules": frozenset({"masks"}),
        "crop": frozenset({"crop"}),
        "masks": frozenset({"masks"}),
        "quality": frozenset({"detect"}),
        "images": frozenset({"decode"}),
        "encoding": frozenset({"encode"}),
        "detection": frozenset({"detect"}),
        "landmark_map": frozenset({"detect"}),
        "detectors": frozenset({"detect"}),
        "mediapipe": frozenset({"detect", "refine"}),
        "landmarker": frozenset({"detect"}),
        "dlib": frozenset({"detect"}),
        "dlib_model": frozenset({"detect"}),
        "numpy": frozenset({"decode", "detect", "crop", "masks"}),
        "opencv-contrib-python": frozenset({"detect", "crop", "masks", "encode"}),
        "pillow": frozenset({"decode"}),
        "simplejpeg": frozenset({"decode"}),
    }
)
"""Each version that decides bytes, and the stages that it decides directly, given what earlier stages made."""

LIBRARIES = ("numpy", "opencv-contrib-python", "pillow", "simplejpeg")
"""Libraries that every run uses."""
NOT_INSTALLED = ("detectors", "landmarker", "dlib_model")
"""Entries that are a choice or the hash of a file, not something that a machine has installed."""


def versions(detectors: DetectorSettings) -> dict[str, str | int]:
    """Return all that decides the bytes of a shard beside the options: own rules, detectors, libraries."""
    return {
        **_own_versions(),
        "detectors": ",".join(detectors.names),
        **detectors.versions,
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def _own_versions() -> dict[str, int]:
    return {
        "format": FORMAT_VERSION,
        "rules": RULES_VERSION,
        "crop": CROP_VERSION,
        "masks": MASK_VERSION,
        "quality": QUALITY_VERSION,
        "images": IMAGES_VERSION,
        "encoding": ENCODING_VERSION,
        "detection": DETECTION_VERSION,
        "landmark_map": MAP_VERSION,
    }


def names_of(stages: Iterable[Stage]) -> tuple[str, ...]:
    """Return the names of the versions that decide any of the stages, in the order of the list."""
    return tuple(name for name, own in STAGES_OF_VERSION.items() if own & frozenset(stages))


def check_versions(expected: Mapping[str, str | int], stages: frozenset[Stage] = ALL_STAGES) -> None:
    """Check that this worker has the versions of the machine that started the run.

    Parameters
    ----------
    expected : mapping of str to str or int
        From `versions`, of the machine that started the run.
    stages : frozenset of str
        The stages that this worker runs; versions that decide other stages may differ.

    Raises
    ------
    RunError
        At the first version that differs.
    """
    for name in names_of(stages):
        if name not in expected or name in NOT_INSTALLED:
            continue
        installed = installed_version(name)
        if installed != expected[name]:
            found = f"no {name}" if installed is None else f"{name} {installed}"
            raise RunError(f"this worker has {found}, expected {expected[name]}, as where the run was started")


def installed_version(name: str) -> str | int | None:
    """Return one of the versions of this machine, None where it has no such library."""
    own = _own_versions()
    return own[name] if name in own else library_version(name)
