"""Files, local and remote: written whole or not at all, listed, locked; remote ones in a dict in memory."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from apache_beam.io.filesystem import FileMetadata, FileSystem

from pipeline import local_files, storage
from pipeline.errors import FileTooLargeError, InputError
from pipeline.inputs import text_tables
from pipeline.local_files import NotRegularFileError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

OBJECTS: dict[str, bytes] = {}
"""What the object store of these tests holds."""


class ObjectStoreError(Exception):
    """What object stores raise is no OSError."""


class Upload(io.BytesIO):
    """An object that is there once it is closed."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            OBJECTS[self._path] = self.getvalue()
        super().close()


class DictFileSystem(FileSystem):  # type: ignore[misc]
    """An object store as Beam sees it, with neither folders nor a network."""

    @classmethod
    def scheme(cls) -> str:
        return "dict"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, ...]:
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path: str) -> None:
        raise AssertionError("object stores need no folders")

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        if dir_or_prefix.startswith("dict://forbidden"):
            raise ObjectStoreError("403 no access")
        for path, content in OBJECTS.items():
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, len(content))

    def create(self, path: str, mime_type: str | None = None, compression_type: str | None = None) -> Upload:
        return Upload(path)

    def open(self, path: str, mime_type: str | None = None, compression_type: str | None = None) -> io.BytesIO:
        if path not in OBJECTS:
            raise ObjectStoreError("404 not found")
        if path.endswith("forbidden"):
            raise ObjectStoreError("403 no access")
        return io.BytesIO(OBJECTS[path])

    def exists(self, path: str) -> bool:
        return path in OBJECTS

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            del OBJECTS[path]

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        raise NotImplementedError

    rename = copy
    size = last_updated = checksum = exists

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, len(OBJECTS[path]))


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a folder that is empty: on this machine, or in an object store."""
    OBJECTS.clear()
    return str(tmp_path) if request.param == "local" else "dict://bucket/folder"


def files_in(folder: str) -> dict[str, int]:
    return storage.list_files(folder) if os.path.isdir(folder) else {path: len(data) for path, data in OBJECTS.items()}


def test_a_file_from_start_to_end(folder: str) -> None:
    path = storage.join(folder, "a.bin")
    assert not storage.exists(path)
    assert storage.size_of(path) == -1
    storage.write_bytes(path, b"0123456789")
    assert storage.exists(path)
    assert storage.size_of(path) == 10
    assert storage.read_bytes(path) == b"0123456789"
    assert storage.sha256_of(path) == hashlib.sha256(b"0123456789").hexdigest()
    storage.write_bytes(path, b"new")
    assert storage.read_bytes(path) == b"new"
    assert storage.list_files(folder) == {"a.bin": 3}
    storage.delete(path)
    assert not storage.exists(path)
    storage.delete(path)


def test_names_with_special_characters(folder: str) -> None:
    path = storage.join(folder, "größe 100%.bin")
    storage.write_bytes(path, b"x")
    assert storage.list_files(folder) == {"größe 100%.bin": 1}
    assert storage.read_bytes(path) == b"x"


def test_a_name_that_looks_compressed_is_read_as_it_is(folder: str) -> None:
    path = storage.join(folder, "a.gz")
    storage.write_bytes(path, b"not compressed")
    assert storage.read_bytes(path) == b"not compressed"


def test_a_missing_file(folder: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(folder, "absent"))


def test_files_in_sub_folders(folder: str) -> None:
    if not storage.is_remote(folder):
        os.makedirs(storage.join(folder, "empty"))
        os.makedirs(storage.join(folder, "sub", "deep"))
    for name in ("a.jpg", "sub/b.jpg", "sub/deep/c.jpg", "sub/deep/d e.jpg"):
        storage.write_bytes(storage.join(folder, name), name.encode())
    assert storage.list_files(folder) == {"a.jpg": 5, "sub/b.jpg": 9, "sub/deep/c.jpg": 14, "sub/deep/d e.jpg": 16}
    assert storage.list_files(folder + "/") == storage.list_files(folder)


def test_links_in_a_folder(tmp_path: Path) -> None:
    target, folder = tmp_path / "target", tmp_path / "folder"
    target.mkdir()
    folder.mkdir()
    (target / "a.jpg").write_bytes(b"123")
    (folder / "linked").symlink_to(target)
    (folder / "b.jpg").symlink_to(target / "a.jpg")
    (folder / "broken.jpg").symlink_to(tmp_path / "absent")
    assert storage.list_files(str(folder)) == {"linked/a.jpg": 3, "b.jpg": 3}


def test_links_that_lead_back_are_not_followed_for_ever(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.jpg").write_bytes(b"1")
    (folder / "a" / "again").symlink_to(".")
    (folder / "a" / "up").symlink_to("../..")
    (folder / "b").symlink_to(folder)
    (folder / "self.jpg").symlink_to("self.jpg")
    assert storage.list_files(str(folder)) == {"a/1.jpg": 1}


def test_foreign_files_are_not_listed(folder: str) -> None:
    foreign = [
        ".DS_Store",
        "._a.jpg",
        "Thumbs.db",
        "sub/.nfs000001",
        "@eaDir/a.jpg",
        "__MACOSX/sub/a.jpg",
        ".x/y/a.jpg",
    ]
    for name in ("a.jpg", "sub/b.jpg", *foreign):
        path = storage.join(folder, name)
        if not storage.is_remote(folder):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        storage.write_bytes(path, b"x")
    assert storage.list_files(folder) == {"a.jpg": 1, "sub/b.jpg": 1}
    named = ["absent.jpg", ".absent.jpg", "._a.jpg", ".x/y/a.jpg", "../a.jpg", "/.x"]
    assert storage.list_files(folder, named) == dict.fromkeys(["a.jpg", "sub/b.jpg", "._a.jpg", ".x/y/a.jpg"], 1)


def test_markers_of_folders_in_an_object_store_are_not_listed() -> None:
    OBJECTS.clear()
    OBJECTS.update({"dict://bucket/images/": b"", "dict://bucket/images/a.jpg": b"x", "dict://bucket/images/b/": b""})
    assert storage.list_files("dict://bucket/images") == {"a.jpg": 1}


@pytest.fixture(params=["pipe", "device", "socket", "link to a pipe"])
def irregular(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the path of what is no regular file."""
    path = tmp_path / "a.jpg"
    with socket.socket(socket.AF_UNIX) as bound:
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        elif request.param == "socket":
            bound.bind(str(path))
        else:
            os.mkfifo(tmp_path / ".pipe")
            path.symlink_to(tmp_path / ".pipe")
        yield str(path)


@pytest.mark.parametrize("read", [storage.open_read, storage.read_bytes, storage.sha256_of])
def test_what_is_no_regular_file_is_not_read(irregular: str, read: Callable[[str], object]) -> None:
    with pytest.raises(NotRegularFileError, match=f"not a regular file: '{irregular}'"):
        read(irregular)
    assert storage.list_files(os.path.dirname(irregular)) == {}


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    regular = os.stat(__file__)
    monkeypatch.setattr(os, "stat", lambda path: regular)
    with pytest.raises(NotRegularFileError):
        storage.open_read(str(tmp_path / "a.jpg"))


def test_nothing_takes_the_place_of_a_pipe_or_a_device(irregular: str) -> None:
    with pytest.raises(NotRegularFileError), storage.create(irregular):
        raise AssertionError("it is being written")
    assert not stat.S_ISREG(os.stat(irregular).st_mode)
    assert storage.size_of(irregular) == -1


def test_an_error_of_a_file_passes_between_processes() -> None:
    error = FileTooLargeError(errno.EFBIG, "10 bytes", "a.jpg")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "a.jpg: 10 bytes"  # noqa: S301


@pytest.mark.parametrize("limit", [0, 1, 9, 10, 11, storage.CHUNK])
def test_a_file_is_read_up_to_a_limit(folder: str, limit: int) -> None:
    path = storage.join(folder, "a.bin")
    storage.write_bytes(path, b"0123456789")
    if limit >= 10:
        assert storage.read_bytes(path, limit) == b"0123456789"
    else:
        with pytest.raises(FileTooLargeError, match=rf"a\.bin: more than {limit} bytes"):
            storage.read_bytes(path, limit)


def test_a_sparse_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.bin").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(FileTooLargeError, match=r"a\.bin: more than 1000 bytes"):
        storage.read_bytes(str(tmp_path / "a.bin"), 1000)


def test_a_file_of_unknown_size_is_read_to_its_end() -> None:
    path = "/proc/self/status"
    if not os.path.exists(path):
        pytest.skip("no /proc")
    assert os.stat(path).st_size == 0
    assert b"VmRSS" in storage.read_bytes(path, 1 << 20)
    with pytest.raises(FileTooLargeError):
        storage.read_bytes(path, 100)


def test_a_folder_is_not_read_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        storage.open_read(str(tmp_path))


def test_folders_that_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: no such folder"):
        storage.list_files(str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"dict://forbidden/x: can't be listed: .*403 no access"):
        storage.list_files("dict://forbidden/x")
    with pytest.raises(InputError, match="unknown://x: can't be listed: Unable to get filesystem"):
        storage.list_files("unknown://x")


def test_join() -> None:
    assert storage.join("a/b", "c", "d") == os.path.join("a/b", "c", "d")
    assert storage.join("gs://bucket/folder/", "c", "d") == "gs://bucket/folder/c/d"


def test_a_block_that_raises_leaves_nothing(folder: str) -> None:
    with pytest.raises(ZeroDivisionError), storage.create(storage.join(folder, "a.bin")) as stream:
        stream.write(b"half")
        raise ZeroDivisionError
    assert files_in(folder) == {}


def test_a_block_that_raises_leaves_the_former_file(folder: str) -> None:
    path = storage.join(folder, "a.bin")
    storage.write_bytes(path, b"former")
    with pytest.raises(ZeroDivisionError), storage.create(path) as stream:
        stream.write(b"half")
        raise ZeroDivisionError
    assert storage.read_bytes(path) == b"former"
    assert len(files_in(folder)) == 1


def test_a_file_is_not_there_before_it_is_complete(folder: str) -> None:
    path = storage.join(folder, "a.bin")
    with storage.create(path) as stream:
        stream.write(b"1")
        stream.flush()
        assert not storage.exists(path)
    assert storage.exists(path)
    assert len(files_in(folder)) == 1


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = str(tmp_path / "a.bin")
    with storage.create(path) as first, storage.create(path) as second:
        first.write(b"first")
        second.write(b"the second")
    assert storage.read_bytes(path) == b"first"
    assert os.listdir(tmp_path) == ["a.bin"]


class FullDisk(io.BufferedWriter):
    """A file on a disk that has room for 100 bytes."""

    def write(self, data: ReadableBuffer) -> int:
        if self.tell() + memoryview(data).nbytes > 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def full_disk(path: str, mode: str, buffering: int) -> FullDisk:
    assert mode == "wb"
    return FullDisk(io.FileIO(path, "w"))


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "a.bin")
    storage.write_bytes(path, b"former")
    monkeypatch.setattr(local_files, "open", full_disk, raising=False)
    with pytest.raises(OSError, match="No space left on device"), storage.create(path) as stream:
        for _ in range(20):
            stream.write(b"0123456789")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["a.bin"]
    assert storage.read_bytes(path) == b"former"


def test_what_a_killed_run_left_is_deleted(tmp_path: Path) -> None:
    writer = storage.create(str(tmp_path / "a.bin"))
    stream = writer.__enter__()
    stream.write(b"half")
    (left,) = os.listdir(tmp_path)
    (tmp_path / ".hidden").write_bytes(b"the user's")
    (tmp_path / "b.tmp").write_bytes(b"the user's")
    storage.delete_temporaries(str(tmp_path))
    assert left.endswith(".tmp")
    assert sorted(os.listdir(tmp_path)) == [".hidden", "b.tmp"]
    with pytest.raises(FileNotFoundError):
        writer.__exit__(None, None, None)


def test_a_second_holder_is_refused(tmp_path: Path) -> None:
    folder = str(tmp_path)
    with storage.locked(folder):
        with pytest.raises(InputError, match="another run is writing here"), storage.locked(folder):
            raise AssertionError("both hold it")
        with pytest.raises(InputError), storage.locked(folder):
            raise AssertionError("the refused one freed it")
    with pytest.raises(ZeroDivisionError), storage.locked(folder):
        raise ZeroDivisionError
    with storage.locked(folder):
        pass
    assert os.listdir(tmp_path) == []


def test_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    storage.make_folder(str(path))
    storage.make_folder(str(path))
    assert path.is_dir()
    assert os.listdir(path) == []
    storage.make_folder("dict://bucket/folder")


def test_folders_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="file: can't write here: File exists"):
        storage.make_folder(str(tmp_path / "file"))
    with pytest.raises(InputError, match="sub: can't write here: Not a directory"):
        storage.make_folder(str(tmp_path / "file" / "sub"))
    with pytest.raises(InputError, match="unknown://x: Unable to get filesystem"):
        storage.make_folder("unknown://x")


def test_locks_and_temporaries_are_local_things() -> None:
    with storage.locked("dict://bucket"), storage.locked("dict://bucket"):
        storage.delete_temporaries("dict://bucket")


def test_a_remote_file_that_cannot_be_read_keeps_its_error() -> None:
    OBJECTS["dict://bucket/forbidden"] = b"x"
    with pytest.raises(ObjectStoreError, match="403"):
        storage.open_read("dict://bucket/forbidden")


def test_tables_from_an_object_store() -> None:
    OBJECTS["dict://bucket/labels.txt"] = b"1\r\nA\r\na.jpg 1\r\n"
    OBJECTS["dict://bucket/forbidden"] = b"x"
    table = text_tables.read_table("dict://bucket/labels.txt")
    assert list(table.rows) == [(3, "a.jpg", ["1"])]
    with pytest.raises(InputError, match=r"dict://bucket/absent: No such file or directory"):
        text_tables.read_table("dict://bucket/absent")
    with pytest.raises(InputError, match="dict://bucket/forbidden: can't be read: 403 no access"):
        text_tables.read_table("dict://bucket/forbidden")
    with pytest.raises(InputError, match="unknown://x: can't be read: Unable to get filesystem"):
        text_tables.read_table("unknown://x")


def test_hashing_writer() -> None:
    target = io.BytesIO()
    writer = storage.HashingWriter(target)
    assert writer.write(b"0123") == 4
    assert writer.write(memoryview(b"456")) == 3
    assert writer.tell() == writer.bytes == 7
    assert writer.sha256 == hashlib.sha256(b"0123456").hexdigest()
    assert target.getvalue() == b"0123456"


def test_a_link_to_itself_is_below_its_own_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert storage.is_below(str(tmp_path / "loop"), str(tmp_path))
    assert not storage.is_below(str(tmp_path / "loop"), str(tmp_path / "other"))
