"""Tar files as the trainer reads them: damage is named, nothing but plain files is taken; and work in threads."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Generator, Iterable, Iterator

import numpy as np
import pytest

from regions.tar_files import read_members
from tests.training_data import members_of
from training.shard_reader import group_by_key
from training.threads import take_turns


def tar_of(members: Iterable[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


MEMBERS = [("a.jpg", b"x" * 700), ("a.json", b""), ("b.masks.png", b"y" * 512), ("b.json", b"{}")]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_wrote(kind: int) -> None:
    assert list(read_members(io.BytesIO(tar_of(MEMBERS, kind)))) == MEMBERS
    samples = [(f"s{i}.{ending}", content) for i in range(3) for ending, content in members_of(i).items()]
    assert list(read_members(io.BytesIO(tar_of(samples, kind)))) == samples


def test_members_are_grouped_by_the_name_before_the_first_dot() -> None:
    assert list(group_by_key(MEMBERS)) == [
        {"__key__": "a", "jpg": MEMBERS[0][1], "json": b""},
        {"__key__": "b", "masks.png": MEMBERS[2][1], "json": b"{}"},
    ]
    with pytest.raises(ValueError, match=r"'a\.jpg' appears twice"):
        list(group_by_key([MEMBERS[0], MEMBERS[0]]))


def test_any_damage_to_a_header_is_found() -> None:
    content = tar_of(MEMBERS)
    for place in np.random.default_rng(0).integers(0, 512, 40):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        with pytest.raises(ValueError, match=r"damaged header|ends within|plain file"):
            list(read_members(io.BytesIO(bytes(damaged))))


@pytest.mark.parametrize(("length", "what"), [(300, "a header"), (900, "a.jpg"), (1100, "a.jpg"), (1536, "a header")])
def test_a_file_cut_short_is_found(length: int, what: str) -> None:
    with pytest.raises(ValueError, match=f"the file ends within {what}"):
        list(read_members(io.BytesIO(tar_of(MEMBERS)[:length])))


def test_links_and_long_names_are_refused() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    long = tar_of([(f"{'x' * 60}/{'y' * 60}.jpg", b"")])
    for content in (stream.getvalue(), long):
        with pytest.raises(ValueError, match="is not a plain file"):
            list(read_members(io.BytesIO(content)))


def test_streams_are_read_in_turn_an_item_of_each_ahead() -> None:
    asked = []

    def stream(name: str, count: int) -> Iterator[str]:
        for index in range(count):
            asked.append((name, index))
            yield f"{name}{index}"

    items = take_turns([stream("a", 3), stream("b", 1), stream("c", 2)], 2)
    assert next(items) == "a0"
    deadline = time.monotonic() + 10
    while len(asked) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(asked) == [("a", 0), ("a", 1), ("b", 0), ("c", 0)]
    assert list(items) == ["b0", "c0", "a1", "c1", "a2"]


def test_an_error_in_a_thread_reaches_the_reader_and_the_threads_end() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 0

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    before = threading.active_count()
    with pytest.raises(ValueError, match="broken"):
        list(take_turns([endless(), broken()], 2))
    items = take_turns([endless(), endless()], 2)
    assert next(items) == 0
    assert isinstance(items, Generator)
    items.close()
    assert threading.active_count() == before
