"""Packed masks as the trainer decodes them: unfiltered PNGs quickly, any other by OpenCV, to the same pixels."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests.training_data import ATTRIBUTES, members_of
from training import shard_reader
from training.cli_common import DataError
from training.shard_reader import decode

MASKS = np.random.default_rng(0).integers(0, 2, (1, 96, 76), dtype=np.uint8)
ROWS = np.pad(MASKS[0], ((0, 0), (1, 0)))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(data: bytes, *, end: bytes = chunk(b"IEND", b"")) -> bytes:
    header = struct.pack(">IIBBBBB", 76, 96, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + end


PLAIN = zlib.compress(ROWS.tobytes(), 1)


def decoded(content: bytes) -> npt.NDArray[np.uint8]:
    masks = np.zeros_like(MASKS)
    sample = {**members_of(1), "masks.png": content, "__key__": "a", "__url__": "s.tar"}
    decode(sample, ATTRIBUTES, np.empty((218, 178, 3), np.uint8), masks)
    return masks


def test_an_unfiltered_png_needs_no_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(shard_reader, "_decode_any_png")
    np.testing.assert_array_equal(decoded(png(PLAIN)), MASKS)


@pytest.mark.parametrize(
    "content",
    [
        cv2.imencode(".png", MASKS[0])[1].tobytes(),
        png(PLAIN, end=chunk(b"tEXt", b"a\0b") + chunk(b"IEND", b"")),
        png(PLAIN[:100], end=chunk(b"IDAT", PLAIN[100:]) + chunk(b"IEND", b"")),
    ],
    ids=["filtered", "text", "two pieces"],
)
def test_another_png_has_the_same_pixels(content: bytes) -> None:
    np.testing.assert_array_equal(decoded(content), MASKS)


@pytest.mark.parametrize("place", [20, 30, 45, 500, -20, -14])
def test_a_damaged_png_is_left_to_opencv(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("seen by OpenCV")

    monkeypatch.setattr(shard_reader, "_decode_any_png", refuse)
    damaged = bytearray(png(PLAIN))
    damaged[place] ^= 1
    with pytest.raises(DataError, match="seen by OpenCV"):
        decoded(bytes(damaged))


@pytest.mark.parametrize(
    "rows", [ROWS[:-1], np.pad(ROWS, ((0, 1), (0, 0))), np.tile(ROWS, (1, 5))], ids=["fewer", "more", "many more"]
)
def test_pixels_of_another_number_are_left_to_opencv(
    monkeypatch: pytest.MonkeyPatch, rows: npt.NDArray[np.uint8]
) -> None:
    monkeypatch.setattr(shard_reader, "_decode_any_png", lambda _, masks: masks.fill(7))
    assert (decoded(png(zlib.compress(rows.tobytes()))) == 7).all()
