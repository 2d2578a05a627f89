"""Samples as bytes: the PNG of packed masks, the JSON member and the tar file, against libraries that do the same."""

import io
import json
import tarfile

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image

from pipeline.building.encoding import encode_packed_masks
from pipeline.formats.samples import SampleWriter, decode_packed_masks, describe_sample, encode_description
from pipeline.records import ImageRow, WrittenSample
from regions.boxes import Box
from tests.faces import face

PNG = (
    "89504e470d0a1a0a0000000d494844520000012c000000040800000000119e5d460000001c4944415478016318"
    "051402d651800418f003d65180041846013900009e980a8d2e98690b0000000049454e44ae426082"
)


def written_sample(image_id: str = "000001.jpg") -> WrittenSample:
    row = ImageRow(image_id, "000001", np.array([1, 0, -1], dtype=np.int8), None, None, None, None)
    landmarks = np.round(face().astype(np.float32) * 64) / 64
    return WrittenSample(row, "whole_image", landmarks, Box(-3, 4, 175, 222), 300, 300, "0" * 64, b"jpeg" * 130, b"png")


@pytest.mark.parametrize("shape", [(5, 96, 76), (1, 1, 1), (5, 218, 178)])
def test_packed_masks_are_the_same_in_every_reader_of_png(shape: tuple[int, int, int]) -> None:
    packed = np.random.default_rng(0).integers(0, 4, shape, dtype=np.uint8)
    png = encode_packed_masks(packed)
    stacked = packed.reshape(-1, shape[2])
    assert (np.asarray(Image.open(io.BytesIO(png))) == stacked).all()
    assert (cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_UNCHANGED) == stacked).all()
    assert (decode_packed_masks(png, shape[1:]) == packed).all()


def test_packed_masks_have_the_bytes_that_any_zlib_gives() -> None:
    packed = np.zeros((1, 4, 300), dtype=np.uint8)
    packed[0, 1:3, 20:290] = 5
    assert encode_packed_masks(packed).hex() == PNG


def test_a_tar_file_has_the_bytes_that_tarfile_writes() -> None:
    found, expected = io.BytesIO(), io.BytesIO()
    members = {"jpg": b"", "masks.png": b"x" * 512, "json": b"y" * 70_001}
    writer = SampleWriter(found)
    with tarfile.TarFile(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key in ("a", "k" * 89):
            writer.add_members(key, members)
            for ending, content in members.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size, info.mode = len(content), 0o644
                tar.addfile(info, io.BytesIO(content))
    writer.close()
    assert found.getvalue() == expected.getvalue()
    assert writer.bytes == len(expected.getvalue())


def test_a_member_whose_name_is_too_long_for_a_tar_file_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at most 100 letters"):
        SampleWriter(io.BytesIO()).add_members("k" * 98, {"jpg": b""})


@pytest.mark.parametrize("image_id", ["000001.jpg", "größe/顔 1.jpg", 'quo"te\\.jpg'])
def test_a_description_has_the_text_of_json(image_id: str) -> None:
    description = describe_sample(written_sample(image_id), "train", ["a", "b", "ü" if "ö" in image_id else "c"])
    text = encode_description(description)
    assert text.isascii()
    assert text.decode() == json.dumps(msgspec.structs.asdict(description), separators=(",", ":"))
