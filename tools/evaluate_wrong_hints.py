"""Measure what becomes of images whose hints are wrong, on photographs with ground-truth landmarks.

    python tools/evaluate_wrong_hints.py --data DIR [--every 4]

reads the same data set as ``evaluate_landmarks.py`` and prints, for true hints and for hints of
another image, of another image size, mirrored and shifted ones, how many faces are accepted
correctly (error below 10 %), accepted wrongly, and rejected.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from tqdm import tqdm

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from evaluate_landmarks import MAX_ERROR, Photograph, error, mirrored, read_photographs, row_of

from pipeline import images
from pipeline.config import RunConfig
from pipeline.detection.detectors import open_detectors
from pipeline.detection.fallback_chain import DetectedFace, FallbackChain
from pipeline.detection.settings import detector_settings
from regions.landmarks import FloatArray

HINTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"points": ("points",), "box": ("bbox",), "box and points": ("bbox", "points")}
)
OTHER_IMAGE = 7
"""Position of the image whose hints are taken, counted from the image itself."""

Hints = tuple[FloatArray, FloatArray]
"""Face box (4,) and five points (5, 2)."""


def scaled(factor: float) -> Callable[[Photograph], Hints]:
    """Return the hints of an image whose size has been changed by a factor."""
    return lambda photograph: (photograph.bbox * factor, photograph.points * factor)


def shifted_by_image(photograph: Photograph) -> Hints:
    """Return the hints, shifted by a fifth of the image to the right and down."""
    rows, cols = photograph.pixels.shape[:2]
    return _shifted(photograph, 0.2 * cols, 0.2 * rows)


def shifted_by_face(photograph: Photograph) -> Hints:
    """Return the hints, shifted by a fifth of the face box to the right and down."""
    return _shifted(photograph, *(0.2 * photograph.bbox[2:]))


def of_mirror_image(photograph: Photograph) -> Hints:
    """Return the hints of the mirror image."""
    other = mirrored(photograph)
    return other.bbox, other.points


def _shifted(photograph: Photograph, x: float, y: float) -> Hints:
    return photograph.bbox + (x, y, 0, 0), photograph.points + (x, y)


KINDS: Mapping[str, Callable[[Photograph], Hints]] = MappingProxyType(
    {
        "true": scaled(1),
        "x0.5": scaled(0.5),
        "x0.9": scaled(0.9),
        "x1.1": scaled(1.1),
        "x2": scaled(2),
        "mirrored": of_mirror_image,
        "shifted by 20 % of the image": shifted_by_image,
        "shifted by 20 % of the face": shifted_by_face,
    }
)


def measure(title: str, chain: FallbackChain, photographs: list[Photograph], hints: list[Hints]) -> None:
    """Print how many faces are accepted correctly, accepted wrongly and rejected."""
    for names, used in HINTS.items():
        counts: Counter[str] = Counter()
        pairs = zip(photographs, hints, strict=True)
        for photograph, (bbox, points) in tqdm(pairs, total=len(photographs), desc=title, leave=False):
            image = images.DecodedImage(photograph.pixels, *photograph.pixels.shape[:2])
            found = chain.find(image, row_of(replace(photograph, bbox=bbox, points=points), used))
            if isinstance(found, DetectedFace):
                right = error(found.landmarks, photograph).mean() < MAX_ERROR
                counts["correct" if right else "wrong"] += 1
                counts[f"{'correct' if right else 'wrong'} by {found.landmark_source}"] += 1
            else:
                counts["rejected"] += 1
        by_source = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if " by " in name)
        print(
            f"{title:29} {names:15} {counts['correct']:4} correct {counts['wrong']:4} wrong"
            f" {counts['rejected']:4} rejected  ({by_source})",
            flush=True,
        )


def main() -> None:
    """Print all measurements."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, metavar="DIR", help="photographs with ground-truth landmarks")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use only every N-th photograph (default: 1)")
    options = parser.parse_args()
    chain = FallbackChain(open_detectors(detector_settings(RunConfig("", "", ""))))
    photographs = list(read_photographs(options.data, options.every))
    for title, kind in KINDS.items():
        measure(title, chain, photographs, [kind(photograph) for photograph in photographs])
    others = photographs[OTHER_IMAGE:] + photographs[:OTHER_IMAGE]
    measure("of another image", chain, photographs, [(other.bbox, other.points) for other in others])
    chain.close()


if __name__ == "__main__":
    main()
