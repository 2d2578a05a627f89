"""The fallback chain: the order of its landmark sources, which faces are trusted, and which one is selected."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.detection.face_search import BOX_MARGINS, ROTATIONS, SURE, FaceSearch, prominence
from pipeline.detection.fallback_chain import (
    DetectedFace,
    DetectionFailure,
    FallbackChain,
    hinted_bbox,
)
from pipeline.detection.landmark_map import SeenFace
from pipeline.detection.patches import FaceSquare, points_square
from pipeline.images import DecodedImage
from pipeline.records import HINT_SAMPLE, ImageRow, is_sampled
from pipeline.vocabulary import LANDMARK_SOURCES, WEAK_SOURCES, LandmarkSource
from regions.boxes import BBox
from regions.landmarks import FloatArray, face_size, five_points, landmarks_from_five_points, landmarks_in_bbox
from tests.faces import face
from tests.fake_detectors import (
    FakeDlib,
    FakeFaces,
    FakeMesh,
    NotAsked,
    box_about,
    chain_of,
    chart,
    detectors_of,
    hinted_row,
    in_patch,
    place_of,
    rotation_of,
)

IMAGE = chart()
"""250x250 pixels."""
FACE = face(x=120, y=110, eye_distance=40)


def assert_found(
    found: DetectedFace | DetectionFailure, landmark_source: str, expected: FloatArray, within: float = 0.03
) -> None:
    """Check the landmark source and, in face sizes, the landmarks."""
    assert isinstance(found, DetectedFace), found
    assert found.landmark_source == landmark_source
    assert np.linalg.norm(found.landmarks - expected, axis=1).max() <= within * face_size(expected)


def sources_of(chain: FallbackChain, image: DecodedImage, row: ImageRow) -> list[LandmarkSource]:
    """Return all landmark sources in order, as they are tried when none gives a face."""
    return [landmark_source for landmark_source, candidates in chain._sources(image, row) if not list(candidates)]


@pytest.mark.parametrize(
    ("eye_distance", "landmark_source", "asked"),
    [(125, "whole_image", 0), (85, "whole_image", 0), (40, "face_detector", 1), (20, "tiles", 1 + 9 + 49 + 225)],
)
def test_the_smaller_the_face_the_later_the_source_without_hints(
    eye_distance: int, landmark_source: str, asked: int
) -> None:
    image, there = chart(800, 800), face(x=430, y=350, eye_distance=eye_distance)
    mesh, faces = FakeMesh(image, [there]), FakeFaces(image, [there])
    assert_found(chain_of(mesh, faces).find(image, hinted_row()), landmark_source, there)
    assert len(faces.places) == asked


@pytest.mark.parametrize(("angle", "rotation"), [(45, 30), (-45, -30), (78, 60), (-78, -60)])
def test_a_tilted_face_without_hints_is_found_in_a_rotated_image(angle: int, rotation: int) -> None:
    there = face(x=130, y=120, eye_distance=60, angle=angle)
    mesh, faces = FakeMesh(IMAGE, [there]), FakeFaces(IMAGE, [there])
    assert_found(chain_of(mesh, faces).find(IMAGE, hinted_row()), "rotated", there)
    *_, first_seen, near, far = (rotation_of(place) for place in mesh.places)
    assert [first_seen, near, far] == pytest.approx([rotation, angle, angle], abs=1)


def test_sources_without_hints() -> None:
    empty = FakeMesh(IMAGE, []), FakeFaces(IMAGE, [])
    assert sources_of(chain_of(*empty), IMAGE, hinted_row()) == [
        *("whole_image", "whole_image", "face_detector", "tiles"),
        *["rotated"] * len(ROTATIONS),
    ]
    large, small = chart(300, 800), chart(190, 100)
    empty = FakeMesh(large, []), FakeFaces(large, [])
    assert sources_of(chain_of(*empty), large, hinted_row()).count("tiles") == 3
    assert "tiles" not in sources_of(chain_of(*empty), small, hinted_row())


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        ({"box": box_about(FACE)}, ["hinted_box"] * 2 + ["rotated"] * 4 + ["whole_image", "face_detector"]),
        (
            {"five": five_points(FACE)},
            ["hinted_box"] * 3 + ["rotated"] * 4 + ["whole_image", "face_detector"],
        ),
        (
            {"five": five_points(face(x=120, y=110, angle=26))},
            ["hinted_box"] + ["rotated"] * 5 + ["whole_image", "face_detector"],
        ),
    ],
    ids=["box", "five points", "tilted"],
)
def test_sources_with_hints(hints: dict[str, FloatArray], expected: list[str]) -> None:
    chain = chain_of(FakeMesh(IMAGE, []), FakeFaces(IMAGE, []))
    assert sources_of(chain, IMAGE, hinted_row(**hints)) == expected
    with_dlib = chain_of(FakeMesh(IMAGE, []), FakeFaces(IMAGE, []), FakeDlib(), ("dlib", "mediapipe"))
    assert sources_of(with_dlib, IMAGE, hinted_row(**hints)) == ["dlib", *expected]


def test_every_source_is_known() -> None:
    assert len(set(LANDMARK_SOURCES)) == 8
    assert set(WEAK_SOURCES) < set(LANDMARK_SOURCES)


def test_what_is_beside_the_box_is_not_looked_at() -> None:
    box = box_about(FACE)
    mesh = FakeMesh(IMAGE, [FACE])
    assert_found(chain_of(mesh).find(IMAGE, hinted_row(box=box)), "hinted_box", FACE)
    (place,) = mesh.places
    reach = BOX_MARGINS[0] * box[2:].max()
    np.testing.assert_allclose(place[:, 2], box[:2] - reach, atol=1.5)
    rows, cols, _ = mesh.shapes[0]
    np.testing.assert_allclose(place[:, :2] @ (cols, rows) + place[:, 2], box[:2] + box[2:] + reach, atol=1.5)


def test_a_second_look_about_the_box_is_from_farther() -> None:
    there = face(x=125, y=120, eye_distance=20)
    mesh = FakeMesh(IMAGE, [there], shares=(0.05, 0.2))
    assert_found(chain_of(mesh).find(IMAGE, hinted_row(box=box_about(there))), "hinted_box", there)
    assert len(mesh.places) == 2
    assert mesh.places[1][0, 0] > 1.5 * mesh.places[0][0, 0]


def test_five_points_alone_make_a_box() -> None:
    mesh = FakeMesh(IMAGE, [FACE])
    assert_found(chain_of(mesh).find(IMAGE, hinted_row(five=five_points(FACE))), "hinted_box", FACE)
    assert len(mesh.places) == 1


def test_hinted_box() -> None:
    five = five_points(FACE)
    assert hinted_bbox(hinted_row()) is None
    box = hinted_bbox(hinted_row(box=[1, 2, 30, 40], five=five))
    assert box is not None
    assert box.tolist() == [1, 2, 30, 40]
    assert box.dtype == np.float64
    about = hinted_bbox(hinted_row(five=five))
    assert about is not None
    x, y, width, height = about
    assert width == height == pytest.approx(2.2 * np.ptp(five, axis=0).max(), rel=1e-6)
    np.testing.assert_allclose([x + width / 2, y + height / 2], (five.min(axis=0) + five.max(axis=0)) / 2, rtol=1e-6)


def test_the_box_limits_the_search_and_the_five_points_select_the_face() -> None:
    other = face(x=190, y=120, eye_distance=30)
    here = face(x=80, y=120, eye_distance=30)
    both = np.array([20, 40, 220, 160])
    for selected in (here, other):
        mesh = FakeMesh(IMAGE, [other, here])
        found = chain_of(mesh).find(IMAGE, hinted_row(box=both, five=five_points(selected)))
        assert_found(found, "hinted_box", selected)
        assert len(mesh.places) == 1


@pytest.mark.parametrize("angle", [26, -40, 90, -135, 180])
def test_a_face_that_is_tilted_by_its_five_points_is_looked_at_upright(angle: int) -> None:
    there = face(x=130, y=120, eye_distance=40, angle=angle)
    for hints in ({}, {"box": box_about(there)}):
        mesh = FakeMesh(IMAGE, [there], tilt=3)
        found = chain_of(mesh).find(IMAGE, hinted_row(five=five_points(there), **hints))
        assert_found(found, "rotated", there)
        (place,) = mesh.places
        assert (rotation_of(place) - angle + 180) % 360 - 180 == pytest.approx(0, abs=1)


@pytest.mark.parametrize("angle", [-45, 30, 70])
def test_a_tilted_face_in_a_box_is_looked_for_with_rotations(angle: int) -> None:
    there = face(x=130, y=120, eye_distance=40, angle=angle)
    mesh = FakeMesh(IMAGE, [there], tilt=16)
    assert_found(chain_of(mesh).find(IMAGE, hinted_row(box=box_about(there))), "rotated", there)
    *searched, near, far = [round(rotation_of(place)) for place in mesh.places]
    assert searched == [0, 0, *ROTATIONS[: len(searched) - 2]]
    assert [near, far] == pytest.approx([angle, angle], abs=1)


@pytest.mark.parametrize(("angle", "looks"), [(24, 1), (26, 2), (-50, 2)])
def test_a_tilted_face_that_is_seen_is_taken_as_it_looks_upright(angle: int, looks: int) -> None:
    there = face(x=130, y=120, eye_distance=40, angle=angle)
    mesh = FakeMesh(IMAGE, [there], tilt=60, tilt_error=0.2)
    found = chain_of(mesh).find(IMAGE, hinted_row(box=box_about(there)))
    assert_found(found, "hinted_box", there, 0.03 if looks == 2 else 0.1)
    assert len(mesh.places) == looks


def test_a_face_that_is_upright_by_its_five_points_is_looked_at_once() -> None:
    there = face(x=130, y=120, eye_distance=40, angle=28)
    five = five_points(face(x=130, y=120, eye_distance=40, angle=24))
    mesh = FakeMesh(IMAGE, [there], tilt=60)
    assert_found(chain_of(mesh).find(IMAGE, hinted_row(five=five)), "hinted_box", there)
    assert len(mesh.places) == 1


def test_a_tilted_face_that_is_not_seen_again_is_taken_as_it_was() -> None:
    there = face(x=130, y=120, eye_distance=40, angle=40)
    mesh = FakeMesh(IMAGE, [there], tilt=60, looks=1)
    assert_found(chain_of(mesh).find(IMAGE, hinted_row(box=box_about(there))), "hinted_box", there)


def test_a_face_beside_the_box_is_not_the_one() -> None:
    beside = face(x=70, y=60, eye_distance=20)
    mesh, faces = FakeMesh(IMAGE, [beside], shares=(0.05, 1)), FakeFaces(IMAGE, [beside], smallest=10)
    box = box_about(face(x=170, y=170, eye_distance=40))
    found = chain_of(mesh, faces).find(IMAGE, hinted_row(box=box))
    assert isinstance(found, DetectionFailure)
    assert found.reason == "wrong_face"
    assert found.detail.startswith("hinted_box: 1.5")
    assert "box sizes from the center of the face box" in found.detail
    assert found.guess is not None
    np.testing.assert_allclose(found.guess, landmarks_in_bbox(BBox(*box)), atol=1e-4)


def test_the_face_detector_helps_where_the_box_is_too_large() -> None:
    there = face(x=120, y=120, eye_distance=40)
    mesh, faces = FakeMesh(IMAGE, [there], shares=(0.25, 1)), FakeFaces(IMAGE, [there])
    box = np.array([*(there.mean(axis=0) - 90), 180, 180])
    assert_found(chain_of(mesh, faces).find(IMAGE, hinted_row(box=box)), "face_detector", there)


def test_an_image_without_a_face() -> None:
    chain = chain_of(FakeMesh(IMAGE, []), FakeFaces(IMAGE, []))
    assert chain.find(IMAGE, hinted_row()) == DetectionFailure("no_face", "no detector found a face", None)
    found = chain.find(IMAGE, hinted_row(box=[50, 60, 100, 120]))
    assert found[:2] == ("no_face", "no detector found a face")
    assert isinstance(found, DetectionFailure) and found.guess is not None
    np.testing.assert_allclose(found.guess, landmarks_in_bbox(BBox(50, 60, 100, 120)))


def test_given_landmarks_come_first_and_need_not_agree_with_the_hints() -> None:
    far = face(x=200, y=200, eye_distance=10)
    image = hinted_row(box=box_about(far), five=five_points(far), given=FACE)
    assert_found(chain_of(names=("mediapipe", "dlib")).find(IMAGE, image), "given", FACE, 1e-6)


def test_given_landmarks_that_are_no_face_are_not_used() -> None:
    wrong = FACE[::-1]
    mesh = FakeMesh(IMAGE, [FACE])
    assert_found(chain_of(mesh).find(IMAGE, hinted_row(given=wrong, box=box_about(FACE))), "hinted_box", FACE)
    found = chain_of(FakeMesh(IMAGE, []), FakeFaces(IMAGE, [])).find(IMAGE, hinted_row(given=wrong))
    assert isinstance(found, DetectionFailure) and found.guess is not None
    assert found.reason == "wrong_face"
    assert found.detail.startswith("given: not a plausible face shape")
    np.testing.assert_allclose(found.guess, wrong, atol=1e-4)


BLIND = FakeMesh(IMAGE, []), FakeFaces(IMAGE, [])


class PatchModel:
    """Sees these landmarks in every patch, one after the other; None where its score shows no face.

    Parameters
    ----------
    image : DecodedImage
        A chart.
    *seen : ndarray (68, 2) or None
        In source pixels; the last one is repeated.
    score : float
        How sure it is of each; less than `SURE` unless given, as of faces that no detector finds.
    """

    def __init__(self, image: DecodedImage, *seen: FloatArray | None, score: float = 0.9) -> None:
        self._image, self._seen, self._score = image, list(seen), score
        self.places: list[FloatArray] = []

    def see(self, pixels: NDArray[np.uint8]) -> SeenFace | None:
        matrix = place_of(pixels, self._image)
        self.places.append(matrix)
        face = self._seen[min(len(self.places), len(self._seen)) - 1]
        return None if face is None else SeenFace(in_patch(face, matrix), self._score)

    def close(self) -> None:
        pass


def sampled_row(*, sampled: bool, five: FloatArray) -> ImageRow:
    """Return a row whose image is searched without its hint, or one whose image is not."""
    name = next(name for name in map("{}.jpg".format, range(1000)) if is_sampled(name) is sampled)
    return dataclasses.replace(hinted_row(five=five), image_id=name)


def test_a_face_that_the_landmark_model_is_sure_of_needs_no_search_for_faces() -> None:
    model = PatchModel(IMAGE, FACE, score=SURE)
    found = chain_of(landmark_model=model).find(IMAGE, sampled_row(sampled=False, five=five_points(FACE) + (3, 2)))
    assert_found(found, "hinted_box", FACE)
    assert len(model.places) == 1


IMPLAUSIBLE = FACE.copy()
IMPLAUSIBLE[0] += 40


@pytest.mark.parametrize(
    ("seen", "score"),
    [(None, 0.0), (FACE, SURE - 1e-6), (FACE + (20, 0), 1.0), (FACE * 2 - (120, 115), 1.0), (IMPLAUSIBLE, 1.0)],
    ids=["no face", "not sure", "beside the points", "larger than the points", "implausible"],
)
def test_what_the_landmark_model_sees_but_is_not_believed_is_searched_for(
    seen: FloatArray | None, score: float
) -> None:
    mesh = FakeMesh(IMAGE, [FACE])
    chain = chain_of(mesh, landmark_model=PatchModel(IMAGE, seen, score=score))
    assert_found(chain.find(IMAGE, sampled_row(sampled=False, five=five_points(FACE))), "hinted_box", FACE)
    assert len(mesh.places) == 1


def test_sampled_images_are_searched_without_their_hint_first() -> None:
    five = five_points(FACE)
    large = FakeMesh(IMAGE, [FACE], shares=(0.1, 0.2))  # sees the face in the whole image only
    unused = PatchModel(IMAGE, FACE, score=1.0)
    assert_found(
        chain_of(large, landmark_model=unused).find(IMAGE, sampled_row(sampled=True, five=five)), "whole_image", FACE
    )
    assert unused.places == []


def test_a_sampled_image_whose_faces_lie_elsewhere_contradicts_the_hint() -> None:
    other = face(x=60, y=60, eye_distance=40)
    chain = chain_of(
        FakeMesh(IMAGE, [other]), FakeFaces(IMAGE, [other]), landmark_model=PatchModel(IMAGE, FACE + (20, 0), score=1.0)
    )
    for sampled in (False, True):
        found = chain.find(IMAGE, sampled_row(sampled=sampled, five=five_points(FACE)))
        assert isinstance(found, DetectionFailure)
        assert found.contradicts_hint


class Finder:
    """Finds the squares about these faces, given in source pixels of a chart that is shown as a whole."""

    def __init__(self, *faces: FloatArray) -> None:
        self._squares = [points_square(five_points(points), 1) for points in faces]

    def find(self, pixels: NDArray[np.uint8]) -> list[FaceSquare]:
        return self._squares

    def close(self) -> None:
        pass


LARGE = face(x=120, y=110, eye_distance=60)
SMALL = face(x=120, y=110, eye_distance=20)
TILTED = face(x=120, y=110, eye_distance=60, angle=30)


def test_of_the_faces_in_an_image_only_the_most_prominent_gets_landmarks() -> None:
    model = PatchModel(IMAGE, LARGE, score=SURE)
    others = [face(x=40, y=60, eye_distance=40), face(x=200, y=200, eye_distance=40)]
    chain = chain_of(landmark_model=model, face_finder=Finder(others[0], LARGE, others[1]))
    assert_found(chain.find(IMAGE, hinted_row()), "whole_image", LARGE)
    (place,) = model.places
    np.testing.assert_allclose(place @ (96, 96, 1), points_square(five_points(LARGE), 1).center, atol=2)


@pytest.mark.parametrize(
    ("seen", "score"),
    [
        ((None,), 0.0),
        ((LARGE,), SURE - 1e-6),
        ((SMALL, SMALL + 4), 1.0),
        ((SMALL, SMALL, None), 1.0),
        ((TILTED, TILTED, TILTED + 10), 1.0),
    ],
    ids=["no face", "not sure", "small, changes", "small, not seen from farther", "tilted, changes from farther"],
)
def test_a_face_that_is_not_easy_to_see_is_searched_for(seen: tuple[FloatArray | None, ...], score: float) -> None:
    mesh = FakeMesh(IMAGE, [LARGE])
    model = PatchModel(IMAGE, *seen, score=score)
    found = chain_of(mesh, landmark_model=model, face_finder=Finder(LARGE)).find(IMAGE, hinted_row())
    assert_found(found, "whole_image", LARGE)
    assert len(mesh.places) == 1


@pytest.mark.parametrize("seen", [SMALL, TILTED], ids=["small", "tilted"])
def test_a_small_or_tilted_face_must_be_seen_twice_again(seen: FloatArray) -> None:
    model = PatchModel(IMAGE, seen, score=SURE)
    assert_found(
        chain_of(landmark_model=model, face_finder=Finder(seen)).find(IMAGE, hinted_row()), "whole_image", seen
    )
    widths = [np.linalg.norm(place[:, 0]) for place in model.places]
    assert np.array(widths) / widths[0] == pytest.approx([1, 1, 1.2], rel=0.05)


def test_an_image_without_a_face_at_a_glance_is_searched() -> None:
    mesh = FakeMesh(IMAGE, [LARGE])
    unused = PatchModel(IMAGE, LARGE, score=1.0)
    found = chain_of(mesh, landmark_model=unused, face_finder=Finder()).find(IMAGE, hinted_row())
    assert_found(found, "whole_image", LARGE)
    assert unused.places == []


def test_about_one_image_in_64_is_sampled_by_its_name() -> None:
    names = [f"{number:06}.jpg" for number in range(1, 20001)]
    assert sum(map(is_sampled, names)) == pytest.approx(20000 / HINT_SAMPLE, rel=0.1)


def test_the_landmark_model_at_the_five_points_comes_after_all_detectors() -> None:
    model, dlib = PatchModel(IMAGE, FACE), FakeDlib()
    chain = chain_of(*BLIND, dlib, ("mediapipe", "dlib"), landmark_model=model)
    found = chain.find(IMAGE, hinted_row(five=five_points(FACE) + (2, 1)))
    assert_found(found, "hinted_box", FACE)
    assert dlib.asked == 1
    widths = [np.linalg.norm(place[:, 0]) for place in model.places]
    assert np.array(widths) / widths[0] == pytest.approx([1, 1, 0.8, 1.2, 1, 1], rel=0.05)
    assert_found(chain_of(FakeMesh(IMAGE, [FACE])).find(IMAGE, hinted_row(five=five_points(FACE))), "hinted_box", FACE)


def test_the_mean_face_is_the_last_resort() -> None:
    five = five_points(FACE) + np.array([[0, 0], [0, 0], [3, 1], [0, 0], [0, 0]])
    model = PatchModel(IMAGE, *[FACE] * 5, FACE + (0, 10))  # a second pass gives other landmarks
    found = chain_of(*BLIND, landmark_model=model).find(IMAGE, hinted_row(five=five))
    assert_found(found, "five_points", landmarks_from_five_points(five), 1e-4)
    implausible = FACE.copy()
    implausible[0] += 40
    found = chain_of(*BLIND, landmark_model=PatchModel(IMAGE, implausible)).find(IMAGE, hinted_row(five=five))
    assert_found(found, "five_points", landmarks_from_five_points(five), 1e-4)


@pytest.mark.parametrize(
    "seen",
    [(None,), (FACE, None), (FACE, FACE, None), (FACE + (20, 0),), (FACE, FACE + (20, 0)), (FACE, FACE, FACE + 20)],
    ids=["no face", "none from near", "none from far", "elsewhere", "elsewhere from near", "elsewhere from far"],
)
def test_five_points_where_the_landmark_model_sees_no_such_face_are_not_believed(
    seen: tuple[FloatArray | None, ...],
) -> None:
    chain = chain_of(*BLIND, landmark_model=PatchModel(IMAGE, *seen))
    found = chain.find(IMAGE, hinted_row(five=five_points(FACE)))
    assert found[:2] == ("no_face", "no detector found a face")


@pytest.mark.parametrize("names", [("mediapipe",), ("dlib",)])
def test_five_points_without_a_landmark_model_are_not_believed(names: tuple[str, ...]) -> None:
    chain = chain_of(*BLIND, FakeDlib(), names)
    assert chain.find(IMAGE, hinted_row(five=five_points(FACE)))[:2] == ("no_face", "no detector found a face")


@pytest.mark.parametrize(("x", "found"), [(100, False), (115, False), (190, True)], ids=["there", "beside", "away"])
def test_a_detected_face_that_covers_the_five_points_contradicts_them(x: int, found: bool) -> None:
    hinted = face(x=80, y=110, eye_distance=40)
    detected = face(x=x, y=110, eye_distance=40)
    mesh = FakeMesh(IMAGE, [detected], shares=(0.05, 1))
    chain = chain_of(mesh, FakeFaces(IMAGE, [detected]), landmark_model=PatchModel(IMAGE, hinted))
    answer = chain.find(IMAGE, hinted_row(five=five_points(hinted)))
    assert isinstance(answer, DetectedFace) is found
    if isinstance(answer, DetectionFailure):
        assert answer.reason == "wrong_face"
        assert answer.contradicts_hint


@pytest.mark.parametrize("factor", [0.5, 0.7, 2])
def test_hints_of_another_image_size_are_contradicted(factor: float) -> None:
    for hints in ({"five": factor * five_points(FACE)}, {"box": factor * box_about(FACE)}):
        chain = chain_of(FakeMesh(IMAGE, [FACE]), FakeFaces(IMAGE, [FACE]), landmark_model=PatchModel(IMAGE, FACE))
        found = chain.find(IMAGE, hinted_row(**hints))
        assert isinstance(found, DetectionFailure)
        assert (found.reason, found.contradicts_hint) == ("wrong_face", True)


def test_a_face_without_a_plausible_shape_does_not_contradict_a_hint() -> None:
    found = chain_of(dlib=FakeDlib(FACE[::-1]), names=("dlib",)).find(IMAGE, hinted_row(box=box_about(FACE)))
    assert isinstance(found, DetectionFailure)
    assert (found.reason, found.contradicts_hint) == ("wrong_face", False)


@pytest.mark.parametrize(("wobble", "trusted"), [(0.03, True), (0.14, False)])
def test_a_face_found_about_a_box_by_rotation_must_be_found_again(wobble: float, trusted: bool) -> None:
    there = face(x=130, y=120, eye_distance=40, angle=45)
    mesh = FakeMesh(IMAGE, [there], tilt=16, wobble=wobble)
    found = chain_of(mesh, FakeFaces(IMAGE, [])).find(IMAGE, hinted_row(box=box_about(there)))
    assert isinstance(found, DetectedFace) is trusted


@pytest.mark.parametrize(
    ("eye_distance", "angle", "looks"), [(32, 0, 1), (29, 0, 3), (60, 24, 1), (60, 27, 3)], ids=str
)
def test_small_and_tilted_faces_without_hints_must_be_found_again(eye_distance: int, angle: int, looks: int) -> None:
    there = face(x=120, y=120, eye_distance=eye_distance, angle=angle)
    mesh = FakeMesh(IMAGE, [there], tilt=45)
    assert_found(chain_of(mesh).find(IMAGE, hinted_row()), "whole_image", there)
    assert len(mesh.places) == looks
    widths = [cols * np.linalg.norm(place[:, 0]) for place, (_, cols, _) in zip(mesh.places, mesh.shapes, strict=True)]
    assert looks == 1 or 1.5 * widths[1] < widths[2] < 2 * widths[1]
    assert [rotation_of(place) for place in mesh.places[1:]] == pytest.approx([angle] * (looks - 1), abs=1)


@pytest.mark.parametrize(("rows", "cols"), [(150, 250), (250, 150)])
def test_a_face_is_small_by_the_longer_side_of_the_image(rows: int, cols: int) -> None:
    image, there = chart(rows, cols), face(x=75, y=75, eye_distance=27)
    mesh = FakeMesh(image, [there])
    assert_found(chain_of(mesh).find(image, hinted_row()), "whole_image", there)
    assert len(mesh.places) == 3


@pytest.mark.parametrize(("wobble", "trusted"), [(0.1, True), (0.14, False)])
def test_a_small_face_that_changes_too_much_is_not_trusted(wobble: float, trusted: bool) -> None:
    there = face(x=120, y=120, eye_distance=28)
    mesh = FakeMesh(IMAGE, [there], wobble=wobble)
    found = chain_of(mesh, FakeFaces(IMAGE, [])).find(IMAGE, hinted_row())
    if trusted:
        assert_found(found, "whole_image", there + (0, 2 * wobble * 28))
    else:
        assert found == DetectionFailure("no_face", "no detector found a face", None)


@pytest.mark.parametrize("looks", [1, 2])
def test_a_small_face_that_is_not_found_again_is_not_trusted(looks: int) -> None:
    there = face(x=120, y=120, eye_distance=28)
    mesh = FakeMesh(IMAGE, [there], looks=looks)
    found = chain_of(mesh, FakeFaces(IMAGE, [there], smallest=10)).find(IMAGE, hinted_row())
    assert found == DetectionFailure("no_face", "no detector found a face", None)


@pytest.mark.parametrize(("eye_distance", "angle"), [(24, 0), (50, 45)], ids=["tiles", "rotated"])
def test_what_tiles_and_rotated_images_show_must_be_found_again(eye_distance: int, angle: int) -> None:
    there = face(x=120, y=120, eye_distance=eye_distance, angle=angle)
    for wobble, trusted in ((0.1, True), (0.14, False)):
        mesh = FakeMesh(IMAGE, [there], wobble=wobble)
        found = chain_of(mesh, FakeFaces(IMAGE, [there])).find(IMAGE, hinted_row())
        source = found.landmark_source if isinstance(found, DetectedFace) else None
        assert source == (("rotated" if angle else "tiles") if trusted else None)


def test_what_the_face_detector_finds_must_be_found_again_too() -> None:
    there = face(x=120, y=120, eye_distance=20)
    for looks, found in ((3, False), (4, True)):
        mesh = FakeMesh(IMAGE, [there], looks=looks)
        answer = chain_of(mesh, FakeFaces(IMAGE, [there], smallest=10)).find(IMAGE, hinted_row())
        assert isinstance(answer, DetectedFace) is found
    assert len(mesh.places) == 5
    assert_found(answer, "face_detector", there)


def test_a_face_that_two_boxes_show_is_one_face() -> None:
    near, far = face(x=70, y=70, eye_distance=20), face(x=180, y=180, eye_distance=20)
    search = FaceSearch(detectors_of(FakeMesh(IMAGE, [near, far]), NotAsked(), NotAsked()))
    boxes = [box_about(near), box_about(near + 2), box_about(far), box_about(near)]
    found = list(search.in_boxes(IMAGE, boxes))
    assert len(found) == 2
    np.testing.assert_allclose(found, [near, far], atol=1)


def test_a_mediapipe_without_a_face_detector_looks_with_the_mesh_alone() -> None:
    image, there = chart(800, 800), face(x=430, y=350, eye_distance=20)
    mesh = FakeMesh(image, [there])
    chain = FallbackChain(detectors_of(mesh, None, NotAsked()))
    assert_found(chain.find(image, hinted_row()), "tiles", there)
    chain.close()
    assert mesh.closed


def test_all_is_in_source_pixels_where_the_image_was_reduced() -> None:
    image = chart(reduction=8)
    straight, tilted = face(x=900, y=800, eye_distance=100), face(x=900, y=800, eye_distance=400, angle=50)
    for there, hints, landmark_source in (
        (straight, {"box": box_about(straight)}, "hinted_box"),
        (straight, {"five": five_points(straight)}, "hinted_box"),
        (straight, {}, "face_detector"),
        (tilted, {"five": five_points(tilted)}, "rotated"),
        (tilted, {}, "rotated"),
    ):
        chain = chain_of(FakeMesh(image, [there]), FakeFaces(image, [there], smallest=10))
        assert_found(chain.find(image, hinted_row(**hints)), landmark_source, there)


def test_dlib_answers_in_decoded_pixels() -> None:
    image, there = chart(125, 250, reduction=4), face(x=500, y=200)
    chain = chain_of(dlib=FakeDlib(there / 4), names=("dlib",))
    for hints in ({}, {"box": box_about(there)}, {"five": five_points(there)}):
        assert_found(chain.find(image, hinted_row(**hints)), "dlib", there, 1e-6)


def test_the_first_detector_that_finds_the_face_counts() -> None:
    other = FACE + 3
    sees, blind = FakeMesh(IMAGE, [FACE]), FakeMesh(IMAGE, [])
    image = hinted_row(box=box_about(FACE))
    assert_found(chain_of(sees, None, None, ("mediapipe", "dlib")).find(IMAGE, image), "hinted_box", FACE)
    assert_found(chain_of(None, None, FakeDlib(other), ("dlib", "mediapipe")).find(IMAGE, image), "dlib", other)
    chain = chain_of(blind, FakeFaces(IMAGE, []), FakeDlib(other), ("mediapipe", "dlib"))
    assert_found(chain.find(IMAGE, image), "dlib", other)
    assert_found(chain_of(sees, None, FakeDlib(), ("dlib", "mediapipe")).find(IMAGE, image), "hinted_box", FACE)


def test_of_several_faces_the_hint_selects_one() -> None:
    faces = [face(x=x, y=120, eye_distance=size) for x, size in ((60, 20), (120, 26), (190, 22))]
    for selected in faces:
        for hints in ({"box": box_about(selected)}, {"five": five_points(selected)}):
            dlib = FakeDlib(*faces)
            assert_found(chain_of(dlib=dlib, names=("dlib",)).find(IMAGE, hinted_row(**hints)), "dlib", selected, 1e-6)
    assert_found(chain_of(dlib=dlib, names=("dlib",)).find(IMAGE, hinted_row()), "dlib", faces[1], 1e-6)


def test_of_faces_that_match_the_hint_the_nearest_is_selected() -> None:
    several = [FACE + (7, 0), FACE + (2, 0), FACE - (10, 0), FACE[::-1]]  # the last one is no face
    for hints in ({"box": box_about(FACE)}, {"five": five_points(FACE)}):
        for order in (several, several[::-1]):
            found = chain_of(dlib=FakeDlib(*order), names=("dlib",)).find(IMAGE, hinted_row(**hints))
            assert_found(found, "dlib", several[1], 1e-6)
    beside = box_about(FACE + (12, 0))
    found = chain_of(dlib=FakeDlib(*several), names=("dlib",)).find(
        IMAGE, hinted_row(box=beside, five=five_points(FACE))
    )
    assert_found(found, "dlib", several[1], 1e-6)  # the five points decide


def test_the_most_prominent_face_is_large_in_the_middle_and_whole() -> None:
    middle = prominence(face(x=200, y=200, eye_distance=20), 400, 400)
    assert middle == pytest.approx(20, rel=0.1)
    assert prominence(face(x=200, y=200, eye_distance=40), 400, 400) == pytest.approx(2 * middle, rel=0.1)
    at_the_edge = prominence(face(x=370, y=200, eye_distance=20), 400, 400)
    assert at_the_edge == pytest.approx(middle * (1 - 0.5 * 170 / 200), rel=0.05)
    points = face(x=400, y=200, eye_distance=20)
    share = (points[:, 0] <= 400).mean()
    assert 0.4 < share < 0.6
    assert prominence(points, 400, 400) == pytest.approx(middle * 0.5 * share**2, rel=0.05)
    assert prominence(face(x=900, y=200), 400, 400) == 0
