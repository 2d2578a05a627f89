"""The options of the commands as frozen values; each default is defined here, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

CROPS = ("face", "none")
SEGMENTATION = "segmentation"
RESOLUTIONS = ("96x76", "218x178", "source")
"""Height and width of released masks: as in the shards, as the crops in them, as the crop in the source image."""


class SourceDataset(msgspec.Struct, frozen=True, kw_only=True):
    """The data set that a run is made from, as the user names it; parts that the user does not name are None.

    Attributes
    ----------
    name, url, license, citation : str or None
    """

    name: str | None = None
    url: str | None = None
    license: str | None = None
    citation: str | None = None


SOURCES: Mapping[str, SourceDataset] = MappingProxyType(
    {
        "celeba": SourceDataset(
            name="CelebA",
            url="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
            license="CelebA is available for non-commercial research purposes only; its images may not be"
            " redistributed.",
            citation="@inproceedings{liu2015faceattributes, title={Deep Learning Face Attributes in the Wild},"
            " author={Liu, Ziwei and Luo, Ping and Wang, Xiaogang and Tang, Xiaoou}, booktitle={International"
            " Conference on Computer Vision (ICCV)}, year={2015}}",
        )
    }
)
"""Data sets that ``--source`` names at once."""


@dataclass(frozen=True)
class RunConfig:
    """The options of ``attparse run``; see ``attparse run --help`` for each."""

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
    skip_unlabelled: bool = False
    min_coverage: float = 0.99
    source: SourceDataset = SourceDataset()  # noqa: RUF009 - frozen
    beam_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class JoinConfig:
    """The options of ``attparse join``; see ``attparse join --help`` for each."""

    release: str
    images: str
    output: str
    labels: str | None = None
    min_coverage: float = RunConfig.min_coverage
    beam_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReleaseConfig:
    """The options of ``attparse release``; see ``attparse release --help`` for each."""

    run: str
    output: str
    resolution: str = RESOLUTIONS[0]
    without_labels: bool = False
    url: str | None = None
    creator: str | None = None


@dataclass(frozen=True)
class PreviewConfig:
    """The options of ``attparse preview``; see ``attparse preview --help`` for each."""

    run: str
    output: str
    samples: int = 24
    region: str | None = None
    attribute: str | None = None
