"""What a worker needs to know to build shards, and what it gets the annotations of its images from."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from pipeline.building.stopwatch import Stopwatch
from pipeline.config import SourceDataset
from pipeline.records import AnnotatedImage, DetectorSettings, ImageRow, RejectedImage, WrittenSample
from regions.attributes import AttributeTable

Stage: TypeAlias = Literal["decode", "detect", "crop", "masks", "refine", "encode"]
"""A step of the work on an image whose result depends on versions."""

Annotate: TypeAlias = Callable[[ImageRow], AnnotatedImage | RejectedImage]
"""Finds the landmarks of an image and makes its crop, or returns why there are none."""


class Annotator(Protocol):
    """Turns images into samples on a worker; holds what is opened once per worker thread."""

    def of_shard(self, name: str) -> AbstractContextManager[Annotate]:
        """Return the function that annotates the images of a shard, in their order."""
        ...

    def samples(self, images: Sequence[AnnotatedImage]) -> list[WrittenSample]:
        """Draw the masks of images, and return their samples in the same order."""
        ...

    def close(self) -> None:
        """Free the models."""
        ...


class AnnotationSource(Protocol):
    """Where landmarks and masks come from, if not from detectors; it is pickled and sent to the workers."""

    @property
    def stages(self) -> frozenset[Stage]:
        """The stages that a worker runs: the versions that decide them must be the same everywhere."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the annotations, part of the fingerprint of each shard."""
        ...

    def open(self, settings: BuildSettings, stopwatch: Stopwatch) -> Annotator:
        """Open the annotator of a worker thread."""
        ...


def _attparse_version() -> str:
    return importlib.metadata.version("attparse")


@dataclass(frozen=True)
class BuildSettings:
    """What a worker needs to know to build shards.

    Attributes
    ----------
    images, output : str
        Folders, local or remote.
    table : AttributeTable
        Its attributes in the order of the label file.
    crop : str
        ``face`` or ``none``.
    seed : int
        Of the plan; recorded in dataset.json.
    skipped : int
        Number of label rows left out because their image is missing.
    annotations : DetectorSettings or AnnotationSource
        Where landmarks come from.
    versions : mapping of str to str or int
        All that decides the bytes of a shard beside the options, on the machine that started the run.
    source : SourceDataset
    refine : str or None
        ``segmentation`` to cut the background out of the regions that may reach into it.
    hint_files : tuple of str
        Of the face boxes and of the five points; recorded in dataset.json.
    kept_crops : str or None
        Folder of a former run whose crops may be used again.
    attparse_version : str
        Of the machine that started the run; recorded in dataset.json.
    """

    images: str
    output: str
    table: AttributeTable
    crop: str
    seed: int
    skipped: int
    annotations: DetectorSettings | AnnotationSource
    versions: Mapping[str, str | int]
    source: SourceDataset = field(default_factory=SourceDataset)
    refine: str | None = None
    hint_files: tuple[str, ...] = ()
    kept_crops: str | None = None
    attparse_version: str = field(default_factory=_attparse_version)
