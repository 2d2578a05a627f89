"""Members of shards made to cost memory or time, or to crash a decoder: both packages refuse them in one line."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.errors import ShardError
from pipeline.formats.dataset_json import read_dataset_file
from pipeline.formats.samples import JPEG, JSON, MASKS, decode_packed_masks, read_members, read_samples
from pipeline.verify import sample_problems
from regions import tar_files
from tests.hostile_images import (
    HUGE_TEXT,
    animated_masks,
    encoded,
    jpeg_claiming,
    jpeg_of_scans,
    png_chunk,
    png_of,
    red,
    tiled_tiff,
)
from tests.synthetic import annotated, write_output
from training import shard_reader
from training.cli_common import DataError

NO_MASKS = zlib.compress(bytes(77 * 96))
BOMB = zlib.compress(bytes(1 << 26), 9)


def decoded_by_the_trainer(png: bytes) -> npt.NDArray[np.uint8]:
    """Return the packed masks of a data set of up to 8 attributes."""
    sample = {"__url__": "s.tar", "__key__": "a", "jpg": encoded(red(178, 218), "JPEG"), "masks.png": png}
    masks = np.full((1, 96, 76), 7, np.uint8)
    shard_reader.decode({**sample, "json": b'{"labels": {}}'}, (), np.zeros((218, 178, 3), np.uint8), masks)
    return masks


@pytest.mark.parametrize(
    ("png", "found"),
    [
        pytest.param(png_of(60_000, 60_000, BOMB), "(60000, 60000)", id="gigabytes"),
        pytest.param(png_of(76, 96 * 10_000_000, BOMB), "(960000000, 76)", id="very many masks"),
        pytest.param(encoded(red(76, 96), "PNG"), "(96, 76, 3)", id="colors"),
        pytest.param(png_of(76, 96, BOMB), "for 96x76 pixels", id="more data than pixels"),
        pytest.param(png_of(76, 96, BOMB, 16, 6), "for 96x76 pixels", id="sixteen bits of four channels"),
        pytest.param(encoded(red(76, 96), "JPEG"), "not a PNG", id="jpeg"),
        pytest.param(tiled_tiff(76, 96, 65_536, 10_912), "not a PNG", id="tiff that unpacks to gigabytes"),
        pytest.param(b"", "not a PNG", id="nothing"),
    ],
)
def test_masks_are_decoded_only_where_the_header_has_their_size(png: bytes, found: str) -> None:
    with pytest.raises(ValueError, match=r"masks ") as of_pipeline:
        decode_packed_masks(png)
    with pytest.raises(DataError, match=r"^s\.tar: sample 'a': masks\.png of ") as of_training:
        decoded_by_the_trainer(png)
    for caught in (of_pipeline, of_training):
        assert found in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "png",
    [
        pytest.param(animated_masks(), id="animation, at which OpenCV crashes"),
        pytest.param(png_of(76, 96, NO_MASKS, 8, 0, png_chunk(b"zTXt", b"k\0\0" + HUGE_TEXT)), id="text"),
        pytest.param(png_of(76, 96, NO_MASKS, 8, 0, png_chunk(b"iCCP", b"k\0\0" + HUGE_TEXT)), id="profile"),
    ],
)
def test_masks_are_decoded_without_metadata(png: bytes) -> None:
    assert not decode_packed_masks(png).any()
    assert not decoded_by_the_trainer(png).any()


CROP = encoded(red(178, 218), "JPEG")


@pytest.mark.parametrize(
    ("jpeg", "problem"),
    [
        pytest.param(jpeg_claiming(CROP, 65_500, 65_500), "65500", id="claims gigabytes"),
        pytest.param(jpeg_claiming(jpeg_of_scans(60_000), 178, 218), "60000 scans|bytes, expected at most", id="scans"),
        pytest.param(encoded(red(178, 218), "GIF"), "can't be decoded|cannot be decoded", id="another format"),
    ],
)
def test_crops_that_would_cost_much_are_not_decoded(tmp_path: Path, jpeg: bytes, problem: str) -> None:
    write_output(tmp_path, {"train-000000": [annotated()]})
    output = tmp_path / "out"
    (sample,) = read_samples(str(output / "shards" / "train-000000.tar"))
    hostile = type(sample)(sample.key, jpeg, sample.png, sample.description)
    (found,) = sample_problems(hostile, read_dataset_file(str(output)), "train")
    assert any(word in found for word in problem.split("|"))
    stored = {"__url__": "s.tar", "__key__": "a", "jpg": jpeg, "json": b'{"labels": {}}'}
    with pytest.raises(DataError, match=rf"^s\.tar: sample 'a': jpg .*({problem})"):
        shard_reader.decode(stored, (), np.zeros((218, 178, 3), np.uint8), np.zeros((0, 96, 76), np.uint8))


def tar_with(info: tarfile.TarInfo, size: int, content: bytes = b"") -> bytes:
    """Return a tar file whose first header claims a size."""
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT) + content


@pytest.mark.parametrize("size", [6 << 30, tar_files.MAX_MEMBER_BYTES + 1])
def test_a_member_beyond_the_limit_is_not_read(tmp_path: Path, size: int) -> None:
    path = tmp_path / "s.tar"
    with path.open("wb") as stream:
        stream.write(tar_with(tarfile.TarInfo("a.jpg"), size))
        stream.truncate(512 + size)  # takes no space on disk
    detail = f"member 'a.jpg' of {size} bytes, expected at most 16777216"
    with pytest.raises(ShardError, match=f"^{path}: {detail}$"):
        list(read_members(str(path), (JPEG, MASKS, JSON)))
    with path.open("rb") as stream, pytest.raises(ValueError, match=f"^{detail}$"):
        list(tar_files.read_members(stream))


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(tarfile.GNUTYPE_SPARSE, id="sparse"),
        pytest.param(tarfile.XHDTYPE, id="extended header of gigabytes"),
        pytest.param(tarfile.GNUTYPE_LONGNAME, id="name of gigabytes"),
        pytest.param(tarfile.SYMTYPE, id="link"),
        pytest.param(tarfile.CHRTYPE, id="device"),
    ],
)
def test_only_plain_members_are_read(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.type = kind
    path = tmp_path / "s.tar"
    path.write_bytes(tar_with(info, 6 << 30))
    with pytest.raises(ShardError, match=f"^{path}: member 'a.jpg' is not a plain file"):
        list(read_members(str(path), (JPEG, MASKS, JSON)))


@pytest.mark.parametrize("size", [b"-0000000777", b"7777777777\xff", b"           "])
def test_a_header_with_an_impossible_size_is_damaged(size: bytes) -> None:
    header = bytearray(tarfile.TarInfo("a.jpg").tobuf(tarfile.USTAR_FORMAT)[:512])
    header[124:135] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ValueError, match=r"damaged header|of -511 bytes"):
        list(tar_files.read_members(io.BytesIO(bytes(header) + bytes(1024))))
