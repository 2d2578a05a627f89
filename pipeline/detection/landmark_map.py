"""Map the 478 points of a face mesh to the 68 iBUG landmarks with a fitted linear map.

The map works in the eye frame of the mesh: the midpoint of the two eye centers is the origin, the
eye centers are at (-0.5, 0) and (0.5, 0), y points down. Therefore the landmarks shift, scale and
rotate with the mesh. ``tools/fit_landmark_map.py`` fits the map and writes the packaged table.
"""

from __future__ import annotations

import functools
import importlib.resources
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from regions.landmarks import FaceFrame, FloatArray

IndexArray = npt.NDArray[np.integer[Any]]

NUM_MESH_POINTS = 478
MAP_VERSION = 3

FACE_MESH, LANDMARKER = "face_mesh_to_68", "landmarker_to_68"
"""Names of the packaged maps: for mediapipe's built-in FaceMesh, and for the Face Landmarker's model file."""

MESH_PIXEL_OFFSET = 0.5
"""Added to FaceMesh's coordinates, in pixels, whose origin is the center of the top-left pixel.

Measured on 240 images against the same images enlarged four times: the smaller image's
points come out 0.37 px too far left and up, where an offset of 0.5 px at either size means 0.375.
"""


@dataclass(frozen=True, eq=False)
class MeshMap:
    """A fitted map from mesh to landmarks. All arrays are read-only.

    Attributes
    ----------
    version : int
        Increased whenever the numbers change.
    weights : ndarray (956, 136), float32
        From mesh to landmarks, both in the eye frame; rows and columns are x0, y0, x1, y1, ...
    intercept : ndarray (136,), float32
        Added to the product, in eye distances.
    left_eye, right_eye : ndarray (6,)
        Mesh indices about the eye on the left and on the right of the image; the mean of each
        six is that eye's center.
    license : str
        The data that the map was fitted on, and its terms of use.
    """

    version: int
    weights: npt.NDArray[np.float32]
    intercept: npt.NDArray[np.float32]
    left_eye: IndexArray
    right_eye: IndexArray
    license: str


class SeenFace(NamedTuple):
    """A face that the landmark model sees in a patch.

    Attributes
    ----------
    landmarks : ndarray (68, 2)
    score : float
        How sure the model is that this is a face, 0.5 to 1.
    """

    landmarks: FloatArray
    score: float


def eye_frame(points: FloatArray, left_eye: IndexArray, right_eye: IndexArray) -> FaceFrame:
    """Return the eye frame of a mesh or of a set of landmarks.

    Parameters
    ----------
    points : ndarray (n, 2)
        Columns x and y, in pixels.
    left_eye, right_eye : ndarray (k,)
        Indices of the points about the eye on the left and on the right of the image.

    Raises
    ------
    ValueError
        If both eye centers are the same point.
    """
    left, right = (points.take(eye, axis=0).sum(axis=0) / len(eye) for eye in (left_eye, right_eye))
    step = right - left
    if not step.any():
        raise ValueError(f"both eye centers are at {left.tolist()}, expected two different points")
    return FaceFrame((left + right) / 2, np.array([step, [-step[1], step[0]]]), squared_length=step @ step)


def mesh_to_pixels(points: FloatArray, width: int, height: int) -> npt.NDArray[np.float64]:
    """Convert FaceMesh's points from fractions of the image to pixels.

    Parameters
    ----------
    points : ndarray (478, 2)
        FaceMesh's x and y, 0 to 1 over the image that it was run on.
    width, height : int
        Size of that image, in pixels.

    Returns
    -------
    ndarray (478, 2), float64
        Continuous coordinates, (0, 0) the top-left corner of the top-left pixel; hence
        `MESH_PIXEL_OFFSET`.
    """
    return np.asarray(points, dtype=np.float64) * (width, height) + MESH_PIXEL_OFFSET


def mesh_to_landmarks(mesh: FloatArray, mesh_map: MeshMap) -> npt.NDArray[np.float32]:
    """Map a face mesh to the 68 iBUG landmarks.

    Parameters
    ----------
    mesh : ndarray (478, 2)
        Columns x and y, in pixels, as from `mesh_to_pixels`: FaceMesh with its ten iris points.
    mesh_map : MeshMap
        As from `load_mesh_map`.

    Returns
    -------
    ndarray (68, 2), float32
        Columns x and y, in the same pixels, in iBUG's order counted from 0.

    Raises
    ------
    ValueError
        If the shape is not (478, 2), a coordinate is not finite, or both eyes are one point.

    Notes
    -----
    FaceMesh places faces half a percent of the eye distance too far to the right, in an image and in
    its mirror image; the map, fitted on both, removes that bias. The ridge regression in an eye-line
    frame is this project's own; the order of the 68 points is that of Sagonas et al.,
    "300 Faces in-the-Wild Challenge" (2013).
    """
    points = np.asarray(mesh, dtype=np.float64)
    if points.shape != (NUM_MESH_POINTS, 2):
        raise ValueError(f"mesh has shape {points.shape}, expected ({NUM_MESH_POINTS}, 2)")
    if not np.isfinite(points).all():
        bad = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise ValueError(f"mesh point {bad} is {points[bad].tolist()}, expected finite numbers")
    frame = eye_frame(points, mesh_map.left_eye, mesh_map.right_eye)
    # Not a BLAS product: its threads would contend with the workers', and its sums depend on their number.
    mapped = np.einsum("i,ij->j", frame.to_face(points).reshape(-1).astype(np.float32), mesh_map.weights)
    mapped += mesh_map.intercept
    return frame.to_image(mapped.reshape(-1, 2)).astype(np.float32)


@functools.cache
def load_mesh_map(name: str) -> MeshMap:
    """Load a packaged map, once per process.

    Parameters
    ----------
    name : str
        `FACE_MESH` or `LANDMARKER`.

    Raises
    ------
    ValueError
        If the packaged file has another version than this module reads.
    """
    resource = importlib.resources.files("pipeline.detection").joinpath(f"{name}.npz")
    with resource.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    version = int(arrays["version"])
    if version != MAP_VERSION:
        raise ValueError(f"{name}.npz has version {version}, expected {MAP_VERSION}")
    for array in arrays.values():
        array.flags.writeable = False
    return MeshMap(
        version=version,
        weights=arrays["weights"],
        intercept=arrays["intercept"],
        left_eye=arrays["left_eye"],
        right_eye=arrays["right_eye"],
        license=str(arrays["license"]),
    )
