"""The words of the formats, each with its meaning: landmark sources, reject reasons, statuses, format versions.

Report, documentation and command line take the meanings from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

FORMAT_VERSION = 2
"""Of dataset.json, the shards and the manifest."""
RELEASE_VERSION = 2
"""Of release.json and the files beside it."""

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

Status = Literal["written", "rejected"]
STATUSES: Mapping[Status, str] = MappingProxyType(
    {
        "written": "The image is a sample of the shard.",
        "rejected": "The image is not in the shard; the manifest has the reason.",
    }
)
WRITTEN: Status = "written"
REJECTED: Status = "rejected"

LandmarkSource = Literal[
    "given", "hinted_box", "whole_image", "face_detector", "tiles", "rotated", "dlib", "five_points"
]
LANDMARK_SOURCES: Mapping[LandmarkSource, str] = MappingProxyType(
    {
        "given": "Landmarks supplied with --landmarks, such as those placed by hand.",
        "hinted_box": "FaceMesh on a region about the face box or the five points.",
        "whole_image": "FaceMesh on the whole image.",
        "face_detector": "MediaPipe's full-range face detector, then FaceMesh on its boxes.",
        "tiles": "The face detector and FaceMesh on overlapping tiles, for small faces in large images.",
        "rotated": "FaceMesh on the image rotated by 30 and 60 degrees either way, or by the tilt of the five points.",
        "dlib": "dlib's frontal face detector and 68-point model (--detectors dlib).",
        "five_points": "The mean face fitted to the five points: position, size and tilt are right,"
        " expression and head rotation are not.",
    }
)
"""In the order of the fallback chain, except that ``rotated`` also precedes ``whole_image`` where there are hints."""
GIVEN: LandmarkSource = "given"
HINTED_BOX: LandmarkSource = "hinted_box"
WHOLE_IMAGE: LandmarkSource = "whole_image"
FACE_DETECTOR: LandmarkSource = "face_detector"
TILES: LandmarkSource = "tiles"
ROTATED: LandmarkSource = "rotated"
DLIB_DETECTOR: LandmarkSource = "dlib"
FIVE_POINTS: LandmarkSource = "five_points"

WEAK_SOURCES: tuple[LandmarkSource, ...] = (FIVE_POINTS,)
"""Sources that only fit a mean face to a few points."""

RejectReason = Literal[
    "missing",
    "unlabelled",
    "unsafe_id",
    "unreadable",
    "empty",
    "not_an_image",
    "too_large",
    "corrupt",
    "no_face",
    "wrong_face",
    "differs",
]
REJECT_REASONS: Mapping[RejectReason, str] = MappingProxyType(
    {
        "missing": "The label file has a row for the image, but the image folder has no such file."
        " --skip_missing leaves such rows out.",
        "unlabelled": "The image folder has the file, but the label file has no row for it.",
        "unsafe_id": "The image id is not a plain relative path below the image folder.",
        "unreadable": "The file cannot be read: permission denied, or not a regular file.",
        "empty": "The file has 0 bytes.",
        "not_an_image": "The content is not JPEG, PNG, WebP, BMP or TIFF, whatever the file name suggests.",
        "too_large": "The image has more pixels or longer sides than the limits for its format, its file more bytes, or"
        " decoding it takes more memory or more passes over the image.",
        "corrupt": "The file starts like an image but cannot be decoded completely.",
        "no_face": "No detector found a face. Annotate the image by hand and supply the result with --landmarks.",
        "wrong_face": "Detectors found faces, but none with a plausible shape that agrees with the face box or the"
        " five points.",
        "differs": "The file is not the one the release was made from: its sha256 differs.",
    }
)
MISSING: RejectReason = "missing"
UNLABELLED: RejectReason = "unlabelled"
UNSAFE_ID: RejectReason = "unsafe_id"
UNREADABLE: RejectReason = "unreadable"
EMPTY: RejectReason = "empty"
NOT_AN_IMAGE: RejectReason = "not_an_image"
TOO_LARGE: RejectReason = "too_large"
CORRUPT: RejectReason = "corrupt"
NO_FACE: RejectReason = "no_face"
WRONG_FACE: RejectReason = "wrong_face"
DIFFERS: RejectReason = "differs"

HAND_LABEL_REASONS: tuple[RejectReason, ...] = (NO_FACE, WRONG_FACE)
"""Rejects that annotation by hand can recover: the image is readable, only its landmarks are missing."""
