"""Fit the linear map from FaceMesh's 478 points to the 68 iBUG landmarks, and the mean shape.

    python tools/fit_landmark_map.py --data DIR --to CHECKOUT

reads ``images/``, ``landmarks.csv`` (columns image_name, x_0, ..., y_67) and
``list_bbox_celeba.txt`` in DIR, prints the five-fold cross-validated error, and writes
``CHECKOUT/pipeline/mesh_to_68.npz`` and ``CHECKOUT/regions/mean_shape.csv``.

The map is a ridge regression in the eye frame of the mesh. Each photograph counts with its mirror
image, so the map treats left and right alike. After a first fit, photographs are weighted by the
inverse of their residual: the error to be small is a mean of distances, not of their squares.
Needs the project itself and scipy.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the number of threads shows in the last bits of sums

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import mediapipe
import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.mesh import MAP_VERSION, eye_frame, mesh_to_pixels
from regions.landmarks import LEFT_EYE, RIGHT_EYE, apply_similarity, fit_similarity, outer_eye_distance

# Mesh points nearest to landmarks 36..41 and 42..47.
MESH_LEFT_EYE = np.array([33, 160, 158, 133, 153, 144])
MESH_RIGHT_EYE = np.array([362, 385, 387, 263, 373, 380])

# fmt: off
# The usual table: for each of the 68 landmarks, the mesh point taken for it.
LOOK_UP_TABLE = np.array([
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,  # mouth
])

# Where each of the 68 landmarks goes when the face is mirrored.
LANDMARK_MIRROR = np.array([
    16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
    26, 25, 24, 23, 22, 21, 20, 19, 18, 17,
    27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
])
# fmt: on

PART_ENDS = {"jaw": (0, 17), "brows": (17, 27), "nose": (27, 36), "eyes": (36, 48), "mouth": (48, 68)}
PARTS = {"all": slice(0, 68)} | {part: slice(*ends) for part, ends in PART_ENDS.items()}
ENLARGEMENTS = (1.4, 1.7, 2.0)  # side of the square crop, in longer sides of the face box
WRONG_FACE = 15.0  # a mesh this far off, in % of the outer eye distance, is of another face
RIDGE_STRENGTHS = (3e-6, 1e-5, 3e-5, 1e-4, 3e-4)  # per sample, in squared eye distances
REWEIGHTINGS = 2
SMALLEST_RESIDUAL = 0.005  # in eye distances; keeps the weights bounded
FOLDS = 5
WEIGHT_STEP = 2.0**-18  # weights are rounded to this, which the last bits of the arithmetic don't reach
LICENCE = (
    "Fitted on the HELEN training photographs with the 68-point annotation of 300-W: "
    "data for non-commercial research only."
)


@dataclass(frozen=True)
class Samples:
    """Meshes that were found and their truth; one photograph gives up to one per enlargement."""

    meshes: np.ndarray  # (n, 478, 2), in the eye frame of the mesh
    truths: np.ndarray  # (n, 68, 2), in the eye frame of the mesh
    photographs: np.ndarray  # (n,) number of the photograph
    scales: np.ndarray  # (n,) eye distance of the mesh in % of the true outer eye distance
    first: np.ndarray  # (n,) whether it is the photograph's first: errors are reported on these


def read_truth(data: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return file names, landmarks (n, 68, 2) and face boxes (n, 4: x, y, width, height), in pixels."""
    with (data / "landmarks.csv").open() as file:
        rows = list(csv.DictReader(file))
    landmarks = [[[float(row[f"x_{i}"]), float(row[f"y_{i}"])] for i in range(68)] for row in rows]
    lines = (data / "list_bbox_celeba.txt").read_text().splitlines()[2:]
    boxes = {line.split()[0]: [float(value) for value in line.split()[1:5]] for line in lines}
    names = [row["image_name"] for row in rows]
    return names, np.array(landmarks), np.array([boxes[name] for name in names])


def find_mesh(face_mesh: Any, picture: np.ndarray, box: np.ndarray, enlargement: float) -> np.ndarray | None:
    """Return the mesh (478, 2) found in a square about the box, in pixels of the picture."""
    x, y, width, height = box
    half = max(width, height) * enlargement / 2
    left, top = max(0, int(x + width / 2 - half)), max(0, int(y + height / 2 - half))
    right, bottom = int(x + width / 2 + half), int(y + height / 2 + half)
    crop = np.ascontiguousarray(picture[top:bottom, left:right])
    faces = face_mesh.process(crop).multi_face_landmarks
    if not faces:
        return None
    points = np.array([(point.x, point.y) for point in faces[0].landmark])
    return mesh_to_pixels(points, crop.shape[1], crop.shape[0]) + np.array([left, top])


def collect(data: Path) -> Samples:
    """Run FaceMesh on every photograph and keep the meshes of the right face."""
    names, landmarks, boxes = read_truth(data)
    meshes, truths, photographs, scales = [], [], [], []
    face_mesh = mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.1
    )
    found = 0
    for number, (name, truth, box) in enumerate(zip(names, landmarks, boxes, strict=True)):
        picture = cv2.cvtColor(cv2.imread(str(data / "images" / name)), cv2.COLOR_BGR2RGB)
        candidates = [find_mesh(face_mesh, picture, box, enlargement) for enlargement in ENLARGEMENTS]
        found += any(mesh is not None for mesh in candidates)
        for mesh in candidates:
            if mesh is None:
                continue
            unit = outer_eye_distance(truth) / 100
            if np.linalg.norm(mesh[LOOK_UP_TABLE] - truth, axis=1).mean() / unit > WRONG_FACE:
                continue
            frame = eye_frame(mesh, MESH_LEFT_EYE, MESH_RIGHT_EYE)
            meshes.append(frame.to_frame(mesh))
            truths.append(frame.to_frame(truth))
            photographs.append(number)
            scales.append(np.linalg.norm(frame.axes[0]) / unit)
    first = np.concatenate([[True], np.diff(photographs) > 0])
    print(f"photographs: {len(names)}, a face found in {found}, the right one in {first.sum()}")
    print(f"meshes of the right face: {len(meshes)} of {len(names) * len(ENLARGEMENTS)} crops")
    return Samples(np.array(meshes), np.array(truths), np.array(photographs), np.array(scales), first)


def mirrored(points: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Mirror points (..., n, 2) of the eye frame."""
    return points[..., mirror, :] * (-1, 1)


def mesh_mirror(meshes: np.ndarray) -> np.ndarray:
    """Return the mesh's mirror permutation (478,): the mean mesh matched with its mirror image."""
    mean = meshes.mean(axis=0)
    distance = np.linalg.norm(mean[:, None] * (-1, 1) - mean[None], axis=2)
    _, mirror = linear_sum_assignment((distance + distance.T) ** 2)
    if not (mirror[mirror] == np.arange(len(mirror))).all():
        raise SystemExit("the mesh's mirror permutation is not its own inverse")
    return mirror


def fit_ridge(
    meshes: np.ndarray, truths: np.ndarray, mirror: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit weights (956, 136) and intercept (136,) on meshes (n, 478, 2) and truths (n, 68, 2)."""
    x = np.concatenate([meshes, mirrored(meshes, mirror)]).reshape(2 * len(meshes), -1)
    y = np.concatenate([truths, mirrored(truths, LANDMARK_MIRROR)]).reshape(2 * len(truths), -1)
    importance = np.full(len(x), 1 / len(x))
    for _ in range(1 + REWEIGHTINGS):
        x_mean, y_mean = importance @ x, importance @ y
        weighted = (x - x_mean) * importance[:, None]
        gram = weighted.T @ (x - x_mean) + strength * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, weighted.T @ (y - y_mean))
        missing = (x - x_mean) @ weights + y_mean - y
        residual = np.linalg.norm(missing.reshape(-1, 68, 2), axis=2)
        importance = 1 / np.maximum(residual.mean(axis=1), SMALLEST_RESIDUAL)
        importance /= importance.sum()
    # Equal to its own mirror image but for rounding; made so exactly.
    weights = weights.reshape(478, 2, 68, 2)
    flip = np.array([[1, -1], [-1, 1]])[None, :, None, :]
    weights = (weights + weights[mirror][:, :, LANDMARK_MIRROR] * flip) / 2
    weights = np.round(weights / WEIGHT_STEP) * WEIGHT_STEP
    x_mean = (x_mean.reshape(478, 2) + mirrored(x_mean.reshape(478, 2), mirror)) / 2
    y_mean = (y_mean.reshape(68, 2) + mirrored(y_mean.reshape(68, 2), LANDMARK_MIRROR)) / 2
    weights = weights.reshape(956, 136)
    intercept = y_mean.reshape(-1) - x_mean.reshape(-1) @ weights
    return weights, np.round(intercept / WEIGHT_STEP) * WEIGHT_STEP


def errors(predicted: np.ndarray, samples: Samples) -> np.ndarray:
    """Return the errors (photographs, 68) on each photograph's first mesh, in % of the outer eye distance."""
    distance = np.linalg.norm(predicted - samples.truths, axis=2) * samples.scales[:, None]
    return distance[samples.first]


def cross_validate(samples: Samples, mirror: np.ndarray, strength: float) -> np.ndarray:
    """Return the `errors` of maps that did not see the photograph they are judged on."""
    folds = (np.random.default_rng(0).permutation(samples.photographs.max() + 1) % FOLDS)[samples.photographs]
    predicted = np.empty_like(samples.truths)
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        weights, intercept = fit_ridge(samples.meshes[train], samples.truths[train], mirror, strength)
        flat = samples.meshes[test].reshape(test.sum(), -1)
        predicted[test] = (flat @ weights + intercept).reshape(-1, 68, 2)
    return errors(predicted, samples)


def fit_mean_shape(landmarks: np.ndarray) -> np.ndarray:
    """Return the Procrustes mean (68, 2) of landmarks (n, 68, 2), symmetric, in its eye frame."""
    shapes = np.concatenate([landmarks, landmarks[:, LANDMARK_MIRROR] * (-1, 1)])
    mean = shapes[0]
    for _ in range(10):
        aligned = [apply_similarity(shape, *fit_similarity(shape, mean)) for shape in shapes]
        mean = np.mean(aligned, axis=0)
        mean = eye_frame(mean, LEFT_EYE, RIGHT_EYE).to_frame(mean)
        mean = (mean + mirrored(mean, LANDMARK_MIRROR)) / 2
    return mean


def main() -> None:
    """Fit, print the errors, write both tables."""
    parser = argparse.ArgumentParser(description="Fit the landmark map and the mean shape.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="annotated photographs")
    parser.add_argument("--to", type=Path, required=True, metavar="CHECKOUT", help="root of the project")
    arguments = parser.parse_args()

    samples = collect(arguments.data)
    mirror = mesh_mirror(samples.meshes)
    tables = {"look-up table": errors(samples.meshes[:, LOOK_UP_TABLE], samples)}
    for strength in RIDGE_STRENGTHS:
        tables[f"ridge {strength:.0e}"] = cross_validate(samples, mirror, strength)
    print("mean error in % of the outer eye distance, the maps five-fold cross-validated")
    print(f"{'':14}" + "".join(f"{part:>7}" for part in PARTS))
    for name, table in tables.items():
        print(f"{name:14}" + "".join(f"{table[:, part].mean():7.2f}" for part in PARTS.values()))
    best = min(RIDGE_STRENGTHS, key=lambda strength: float(tables[f"ridge {strength:.0e}"].mean()))
    print(f"chosen: ridge {best:.0e}, error {tables[f'ridge {best:.0e}'].mean():.3f} %")

    weights, intercept = fit_ridge(samples.meshes, samples.truths, mirror, best)
    np.savez_compressed(
        arguments.to / "pipeline" / "mesh_to_68.npz",
        version=MAP_VERSION,
        weights=weights.astype(np.float32),
        intercept=intercept.astype(np.float32),
        left_eye=MESH_LEFT_EYE,
        right_eye=MESH_RIGHT_EYE,
        mirror=mirror,
        licence=LICENCE,
    )
    shape = np.round(fit_mean_shape(read_truth(arguments.data)[1]), 5) + 0.0  # no -0.0
    rows = [f"{x:.5f},{y:.5f}\n" for x, y in shape]
    (arguments.to / "regions" / "mean_shape.csv").write_text("x,y\n" + "".join(rows))


if __name__ == "__main__":
    main()
