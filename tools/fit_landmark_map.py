"""Fit the linear map from FaceMesh's 478 points to the 68 iBUG landmarks, and the mean shape.

    python tools/fit_landmark_map.py --data DIR --landmarker face_landmarker.task --output CHECKOUT

reads ``images/``, ``landmarks.csv`` (columns image_name, x_0, ..., y_67) and
``list_bbox_celeba.txt`` in DIR, prints the five-fold cross-validated errors, and writes a map for
FaceMesh as it is built into mediapipe (``CHECKOUT/pipeline/detection/face_mesh_to_68.npz``), one for
MediaPipe's Face Landmarker (``landmarker_to_68.npz``), the mean shape and the shape model
(``CHECKOUT/regions/mean_shape.csv``, ``shape_model.npz``).

The map is a ridge regression in the eye frame of the mesh, on each photograph and its mirror image:
FaceMesh is not symmetric: it finds faces half a percent too far to the right, and the mirror images
correct that. After a first fit, images are weighted by the inverse of their residual, because the
error to minimize is a mean of distances, not of their squares. Requires the project and scipy.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the number of threads shows in the last bits of sums

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import mediapipe
import numpy as np
import numpy.typing as npt
from mediapipe.tasks.python import BaseOptions, vision
from scipy.optimize import linear_sum_assignment

from pipeline.detection.landmark_map import FACE_MESH, LANDMARKER, MAP_VERSION, eye_frame, mesh_to_pixels
from pipeline.detection.mediapipe_detectors import LandmarkModel
from pipeline.detection.patches import points_square, square_patch
from pipeline.images import DecodedImage
from regions.landmarks import (
    LEFT_EYE,
    MIRROR,
    PARTS,
    RIGHT_EYE,
    FaceFrame,
    FloatArray,
    apply_similarity,
    fit_similarity,
    five_points,
    mean_shape,
    outer_eye_distance,
)

ImagePixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.integer[Any]]
Finder = Callable[[ImagePixels], "FloatArray | None"]
Map = tuple[FloatArray, FloatArray]

# Mesh points nearest to landmarks 36..41 and 42..47.
MESH_LEFT_EYE = np.array([33, 160, 158, 133, 153, 144])
MESH_RIGHT_EYE = np.array([362, 385, 387, 263, 373, 380])

# fmt: off
# A common table: the mesh point for each of the 68 landmarks.
LOOK_UP_TABLE = np.array([
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,  # mouth
])

# The best-known table: the mean of one or two mesh points.
TWO_POINT_TABLE = [
    [127], [234], [93], [132, 58], [58, 172], [136], [150], [176], [152],  # jaw
    [400], [379], [365], [397, 288], [361], [323], [454], [356],
    [70], [63], [105], [66], [107], [336], [296], [334], [293], [300],  # brows
    [168, 6], [197, 195], [5], [4], [75], [97], [2], [326], [305],  # nose
    [33], [160], [158], [133], [153], [144], [362], [385], [387], [263], [373], [380],  # eyes
    [61], [39], [37], [0], [267], [269], [291], [321], [314], [17], [84], [91],  # mouth
    [78], [82], [13], [312], [308], [317], [14], [87],
]
# fmt: on

PART_COLUMNS = {"all": slice(0, 68)} | PARTS
POINTS_NOISE = (0.0, 0.06)  # of the five points, in eye distances: the patch about them then varies as with hand labels
ENLARGEMENTS = (1.4, 1.7, 2.0)  # side of the square crop, in longer sides of the face box
CONFIDENCE = 0.1  # of the internal face detector; each box is known to contain a face
WRONG_FACE = 15.0  # a mesh with a larger error, in % of the outer eye distance, belongs to another face
RIDGE_STRENGTHS = (3e-6, 1e-5, 3e-5, 1e-4, 3e-4)  # per sample, in squared eye distances
NOISE_FRACTION = 0.2  # of the covariance of FaceMesh's own noise: meshes of an image minus those of its mirror image
REWEIGHTINGS = 2
SMALLEST_RESIDUAL = 0.005  # in eye distances; keeps the weights bounded
FOLDS = 5
SHAPE_COMPONENTS = 25  # more would also explain single misplaced points
WEIGHT_STEP = 2.0**-18  # weights are rounded to this, far above the last bits of the arithmetic
LICENSE = (
    "Fitted on the HELEN training photographs with the 68-point annotation of 300-W: "
    "data for non-commercial research only."
)


@dataclass(frozen=True)
class Views:
    """Meshes found in images, and the ground truth, both in the eye frame of the mesh."""

    meshes: FloatArray  # (n, 478, 2), in the eye frame
    truths: FloatArray  # (n, 68, 2), in the eye frame
    frames: list[FaceFrame]  # in pixels
    scales: FloatArray  # (n,) eye distance of the mesh in % of the true outer eye distance

    def take(self, chosen: npt.NDArray[Any]) -> Views:
        """Return the chosen views."""
        frames = [self.frames[i] for i in np.flatnonzero(chosen)]
        return Views(self.meshes[chosen], self.truths[chosen], frames, self.scales[chosen])


@dataclass(frozen=True)
class Samples:
    """Photographs and their mirror images; one photograph gives up to one sample per enlargement."""

    images: Views
    mirror_images: Views  # x negated: the mirror image of the point (x, y) is (-x, y)
    photographs: Indices  # (n,) number of the photograph

    @property
    def first(self) -> npt.NDArray[np.bool_]:
        """Whether each sample is the first of its photograph; errors are reported on these."""
        return np.concatenate([[True], np.diff(self.photographs) > 0])

    def take(self, chosen: npt.NDArray[Any]) -> Samples:
        """Return the chosen samples."""
        return Samples(self.images.take(chosen), self.mirror_images.take(chosen), self.photographs[chosen])


def read_truth(data: Path) -> tuple[list[str], FloatArray, FloatArray]:
    """Return file names, landmarks (n, 68, 2) and face boxes (n, 4: x, y, width, height), in pixels."""
    with (data / "landmarks.csv").open() as file:
        rows = list(csv.DictReader(file))
    landmarks = [[[float(row[f"x_{i}"]), float(row[f"y_{i}"])] for i in range(68)] for row in rows]
    lines = (data / "list_bbox_celeba.txt").read_text().splitlines()[2:]
    boxes = {line.split()[0]: [float(value) for value in line.split()[1:5]] for line in lines}
    names = [row["image_name"] for row in rows]
    return names, np.array(landmarks), np.array([boxes[name] for name in names])


def find_with_face_mesh() -> Finder:
    """Return a function from an image to a mesh (478, 2), in fractions of the image, or None."""
    face_mesh = mediapipe.solutions.face_mesh.FaceMesh(
        static_image_mode=True, refine_landmarks=True, min_detection_confidence=CONFIDENCE
    )

    def find(image: ImagePixels) -> FloatArray | None:
        faces = face_mesh.process(image).multi_face_landmarks
        return np.array([(point.x, point.y) for point in faces[0].landmark]) if faces else None

    return find


def find_with_landmarker(model: Path) -> Finder:
    """Return the same for MediaPipe's Face Landmarker."""
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=model.read_bytes()), min_face_detection_confidence=CONFIDENCE
    )
    landmarker = vision.FaceLandmarker.create_from_options(options)

    def find(image: ImagePixels) -> FloatArray | None:
        faces = landmarker.detect(mediapipe.Image(mediapipe.ImageFormat.SRGB, image)).face_landmarks
        return np.array([(point.x, point.y) for point in faces[0]]) if faces else None

    return find


def find_mesh(find: Finder, image: ImagePixels, box: FloatArray, enlargement: float) -> FloatArray | None:
    """Return the mesh (478, 2) found in a square around the box, in pixels of the image."""
    x, y, width, height = box
    half = max(width, height) * enlargement / 2
    left, top = max(0, int(x + width / 2 - half)), max(0, int(y + height / 2 - half))
    right, bottom = int(x + width / 2 + half), int(y + height / 2 + half)
    crop = np.ascontiguousarray(image[top:bottom, left:right])
    points = find(crop)
    if points is None:
        return None
    mesh: FloatArray = mesh_to_pixels(points, crop.shape[1], crop.shape[0]) + np.array([left, top])
    return mesh


Found = tuple[int, FloatArray, FloatArray, FloatArray]
"""Number of a photograph, its truth, the mesh, and the mesh of the mirror image moved left by the image's width."""


def about_boxes(data: Path, find: Finder) -> list[Found]:
    """Find the mesh about the box of every photograph and its mirror image, and keep those of the correct face."""
    found: list[Found] = []
    names, landmarks, boxes = read_truth(data)
    for number, (name, truth, box) in enumerate(zip(names, landmarks, boxes, strict=True)):
        image = read_image(data, name)
        width = image.shape[1]
        mirror_box = np.array([width - box[0] - box[2], *box[1:]])
        unit = outer_eye_distance(truth) / 100
        for enlargement in ENLARGEMENTS:
            mesh = find_mesh(find, image, box, enlargement)
            other = find_mesh(find, image[:, ::-1], mirror_box, enlargement)
            if mesh is None or other is None:
                continue
            if np.linalg.norm(mesh[LOOK_UP_TABLE] - truth, axis=1).mean() / unit <= WRONG_FACE:
                found.append((number, truth, mesh, other - (width, 0)))
    return found


def at_five_points(data: Path) -> list[Found]:
    """Find the mesh at the five points of every photograph and its mirror image with the landmark model alone."""
    model = LandmarkModel()
    random = np.random.default_rng(0)

    def look(image: ImagePixels, points: FloatArray) -> FloatArray | None:
        patch = square_patch(DecodedImage(image, *image.shape[:2]), points_square(points, 1))
        return next((patch.to_source(mesh) for mesh in model.find_meshes(patch.pixels)), None)

    found: list[Found] = []
    names, landmarks, _ = read_truth(data)
    for number, (name, truth) in enumerate(zip(names, landmarks, strict=True)):
        image = read_image(data, name)
        width = image.shape[1]
        exact = five_points(truth)
        for noise in POINTS_NOISE:
            points = exact + random.normal(0, noise, exact.shape) * np.linalg.norm(exact[1] - exact[0])
            mirror_points = (points * (-1, 1) + (width, 0))[[1, 0, 2, 4, 3]]
            mesh, other = look(image, points), look(np.ascontiguousarray(image[:, ::-1]), mirror_points)
            if mesh is not None and other is not None:
                found.append((number, truth, mesh, other - (width, 0)))
    model.close()
    return found


def read_image(data: Path, name: str) -> ImagePixels:
    """Return the pixels of a photograph, RGB."""
    return np.asarray(cv2.cvtColor(cv2.imread(str(data / "images" / name)), cv2.COLOR_BGR2RGB), dtype=np.uint8)


def samples_of(found: list[Found]) -> Samples:
    """Return what was found, in the eye frames of the meshes, by photograph."""
    found = sorted(found, key=lambda item: item[0])
    photographs = np.array([number for number, *_ in found])
    print(f"photographs with the correct face: {len(set(photographs))}; samples: {len(found)}")
    images = in_eye_frames([(mesh, truth) for _, truth, mesh, _ in found])
    mirror_images = in_eye_frames([(other, mirrored(truth, MIRROR)) for _, truth, _, other in found])
    return Samples(images, mirror_images, photographs)


def in_eye_frames(found: list[tuple[FloatArray, FloatArray]]) -> Views:
    """Convert pairs of a mesh and the ground truth from pixels to the eye frame of the mesh."""
    frames = [eye_frame(mesh, MESH_LEFT_EYE, MESH_RIGHT_EYE) for mesh, _ in found]
    return Views(
        np.array([frame.to_face(mesh) for frame, (mesh, _) in zip(frames, found, strict=True)]),
        np.array([frame.to_face(truth) for frame, (_, truth) in zip(frames, found, strict=True)]),
        frames,
        np.array([100 * f.eye_distance / outer_eye_distance(t) for f, (_, t) in zip(frames, found, strict=True)]),
    )


def mirrored(points: FloatArray, mirror: Indices) -> FloatArray:
    """Mirror points (..., n, 2) of the eye frame."""
    return points[..., mirror, :] * (-1, 1)


def mesh_mirror(meshes: FloatArray) -> Indices:
    """Return the mesh's mirror permutation (478,): the mean mesh matched with its mirror image."""
    mean = meshes.mean(axis=0)
    distance = np.linalg.norm(mean[:, None] * (-1, 1) - mean[None], axis=2)
    mirror: Indices = linear_sum_assignment((distance + distance.T) ** 2)[1]
    if not (mirror[mirror] == np.arange(len(mirror))).all():
        raise SystemExit("the mesh's mirror permutation is not its own inverse")
    return mirror


def fit_ridge(samples: Samples, mirror: Indices, strength: float) -> Map:
    """Fit weights (956, 136) and intercept (136,) to photographs and their mirror images alike."""
    noise = samples.images.meshes - mirrored(samples.mirror_images.meshes, mirror)
    noise = (noise - noise.mean(axis=0)).reshape(len(noise), -1)
    penalty = strength * np.eye(noise.shape[1]) + NOISE_FRACTION * noise.T @ noise / len(noise)
    x = np.concatenate([samples.images.meshes, samples.mirror_images.meshes]).reshape(2 * len(noise), -1)
    y = np.concatenate([samples.images.truths, samples.mirror_images.truths]).reshape(2 * len(noise), -1)
    importance = np.full(len(x), 1 / len(x))
    for _ in range(1 + REWEIGHTINGS):
        x_mean, y_mean = importance @ x, importance @ y
        weighted = (x - x_mean) * importance[:, None]
        weights = np.linalg.solve(weighted.T @ (x - x_mean) + penalty, weighted.T @ (y - y_mean))
        missing = (x - x_mean) @ weights + y_mean - y
        residual = np.linalg.norm(missing.reshape(-1, 68, 2), axis=2)
        importance = 1 / np.maximum(residual.mean(axis=1), SMALLEST_RESIDUAL)
        importance /= importance.sum()
    weights = np.round(weights / WEIGHT_STEP) * WEIGHT_STEP
    return weights, np.round((y_mean - x_mean @ weights) / WEIGHT_STEP) * WEIGHT_STEP


def predict(views: Views, fitted: Map) -> FloatArray:
    """Return the landmarks (n, 68, 2) of meshes, in the eye frame."""
    weights, intercept = fitted
    return (views.meshes.reshape(len(views.meshes), -1) @ weights + intercept).reshape(-1, 68, 2)


def errors(predicted: FloatArray, views: Views) -> FloatArray:
    """Return the errors (n, 68) of landmarks in the eye frame, in % of the outer eye distance."""
    relative: FloatArray = np.linalg.norm(predicted - views.truths, axis=2) * views.scales[:, None]
    return relative


def cross_validate(samples: Samples, mirror: Indices, strength: float) -> tuple[FloatArray, FloatArray]:
    """Return the landmarks of all samples and of their mirror images by maps fitted without the photograph."""
    folds = (np.random.default_rng(0).permutation(samples.photographs.max() + 1) % FOLDS)[samples.photographs]
    predicted, of_mirror_images = np.empty_like(samples.images.truths), np.empty_like(samples.images.truths)
    for fold in range(FOLDS):
        fitted = fit_ridge(samples.take(folds != fold), mirror, strength)
        tested = samples.take(folds == fold)
        predicted[folds == fold] = predict(tested.images, fitted)
        of_mirror_images[folds == fold] = predict(tested.mirror_images, fitted)
    return predicted, of_mirror_images


def print_mirrored(samples: Samples, predicted: FloatArray, of_mirror_images: FloatArray) -> None:
    """Print the error on mirror images, and the distance of their landmarks from those of the images."""
    print(f"mirror images: error {errors(of_mirror_images, samples.mirror_images)[samples.first].mean():.3f} %")
    pairs = zip(samples.images.frames, predicted, samples.mirror_images.frames, of_mirror_images, strict=True)
    apart = np.array([f.to_image(p) - mirrored(g.to_image(q), MIRROR) for f, p, g, q in pairs])
    unit = np.array([frame.eye_distance for frame in samples.images.frames]) / samples.images.scales
    apart = (apart / unit[:, None, None])[samples.first]
    signed = np.linalg.norm(apart.mean(axis=0), axis=1).mean()
    print(
        f"landmarks of an image and of its mirror image: {np.linalg.norm(apart, axis=2).mean():.2f} % apart,", end=" "
    )
    print(f"{signed:.2f} % by their mean over the images")


def fit_mean_shape(landmarks: FloatArray) -> FloatArray:
    """Return the Procrustes mean (68, 2) of landmarks (n, 68, 2), symmetric, in its eye frame."""
    shapes = np.concatenate([landmarks, landmarks[:, MIRROR] * (-1, 1)])
    mean: FloatArray = shapes[0]
    for _ in range(10):
        aligned = [apply_similarity(shape, *fit_similarity(shape, mean)) for shape in shapes]
        mean = np.mean(aligned, axis=0)
        mean = eye_frame(mean, LEFT_EYE, RIGHT_EYE).to_face(mean)
        mean = (mean + mirrored(mean, MIRROR)) / 2
    return mean


def fit_map(samples: Samples, to: Path) -> None:
    """Print the cross-validated errors of several maps, fit the best one to all samples and write it."""
    mirror = mesh_mirror(samples.images.meshes)
    meshes, first = samples.images.meshes, samples.first
    print("mean error in % of the outer eye distance, the maps five-fold cross-validated")
    print(f"{'':14}" + "".join(f"{part:>7}" for part in PART_COLUMNS))
    pairs = np.array([points if len(points) == 2 else points * 2 for points in TWO_POINT_TABLE])
    print_errors("look-up table", errors(meshes[:, LOOK_UP_TABLE], samples.images)[first])
    print_errors("two-point", errors(meshes[:, pairs].mean(axis=2), samples.images)[first])
    landmarks = {strength: cross_validate(samples, mirror, strength) for strength in RIDGE_STRENGTHS}
    tables = {strength: errors(found, samples.images)[first] for strength, (found, _) in landmarks.items()}
    for strength, table in tables.items():
        print_errors(f"ridge {strength:.0e}", table)
    best = min(RIDGE_STRENGTHS, key=lambda strength: float(tables[strength].mean()))
    print(f"chosen: ridge {best:.0e}, error {tables[best].mean():.3f} %")
    print_mirrored(samples, *landmarks[best])
    weights, intercept = fit_ridge(samples, mirror, best)
    np.savez_compressed(
        to,
        version=MAP_VERSION,
        weights=weights.astype(np.float32),
        intercept=intercept.astype(np.float32),
        left_eye=MESH_LEFT_EYE,
        right_eye=MESH_RIGHT_EYE,
        license=LICENSE,
    )


def print_errors(name: str, table: FloatArray) -> None:
    """Print the means of errors (n, 68) for all points and by part."""
    print(f"{name:14}" + "".join(f"{table[:, part].mean():7.2f}" for part in PART_COLUMNS.values()))


def fit_shape_model(landmarks: FloatArray, to: Path) -> None:
    """Write the principal components of landmarks (n, 68, 2) and their mirror images, aligned with the mean shape."""
    shapes = np.concatenate([landmarks, landmarks[:, MIRROR] * (-1, 1)])
    laid = np.array([apply_similarity(s, *fit_similarity(s, mean_shape())) for s in shapes]).reshape(len(shapes), -1)
    mean = laid.mean(axis=0)
    _, values, components = np.linalg.svd(laid - mean, full_matrices=False)
    np.savez_compressed(
        to,
        components=components[:SHAPE_COMPONENTS].astype(np.float32),
        spreads=(values[:SHAPE_COMPONENTS] / np.sqrt(len(laid))).astype(np.float32),
        mean=mean.astype(np.float32),
        license=LICENSE,
    )


def main() -> None:
    """Fit, print the errors, write all tables."""
    parser = argparse.ArgumentParser(description="Fit the landmark maps, the mean shape and the shape model.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="annotated photographs")
    parser.add_argument(
        "--landmarker", type=Path, required=True, metavar="F.task", help="model file of the Face Landmarker"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="CHECKOUT", help="root of the project")
    arguments = parser.parse_args()

    landmarks = read_truth(arguments.data)[1]
    shape = np.round(fit_mean_shape(landmarks), 5) + 0.0  # no -0.0
    rows = [f"{x:.5f},{y:.5f}\n" for x, y in shape]
    maps = arguments.output / "pipeline" / "detection"
    (arguments.output / "regions" / "mean_shape.csv").write_text("x,y\n" + "".join(rows))
    fit_shape_model(landmarks, arguments.output / "regions" / "shape_model.npz")
    print("FaceMesh, built in:")
    views = about_boxes(arguments.data, find_with_face_mesh()) + at_five_points(arguments.data)
    fit_map(samples_of(views), maps / f"{FACE_MESH}.npz")
    print(f"Face Landmarker, {arguments.landmarker.name}:")
    views = about_boxes(arguments.data, find_with_landmarker(arguments.landmarker))
    fit_map(samples_of(views), maps / f"{LANDMARKER}.npz")


if __name__ == "__main__":
    main()
