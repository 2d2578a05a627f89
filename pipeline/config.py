"""The options of a run, as one value made once from the command line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunConfig:
    """What ``attparse run`` was asked to do; see ``attparse run --help`` for each option."""

    images: str
    labels: str
    output: str
    partition: str | None = None
    bboxes: str | None = None
    points: str | None = None
    landmarks: tuple[str, ...] = ()
    detectors: str = "mediapipe"
    landmarker: str | None = None
    dlib_model: str | None = None
    attribute_table: str = "celeba"
    crop: str = "face"
    refine: str | None = None
    samples_per_shard: int = 1000
    seed: int = 0
    limit: int | None = None
    skip_missing: bool = False
    min_coverage: float = 0.99
    source_name: str | None = None
    source_url: str | None = None
    source_license: str | None = None
    source_citation: str | None = None
    beam_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class JoinConfig:
    """What ``attparse join`` was asked to do; see ``attparse join --help`` for each option."""

    release: str
    images: str
    output: str
    labels: str | None = None
    min_coverage: float = 0.99
    beam_options: tuple[str, ...] = ()
