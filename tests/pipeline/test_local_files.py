"""Local files on file systems that lose what is not flushed, or that know no locks, rights or flushing."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline import local_files, storage
from pipeline.errors import InputError

WITHOUT_LOCKS = [errno.ENOLCK, errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF]
WITHOUT_SYNC = [errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF]


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The warnings so far, each of which is given once per process."""
    monkeypatch.setattr(logging.getLogger("attparse"), "propagate", True)
    local_files._warn_of_sync.cache_clear()
    yield caplog.messages
    local_files._warn_of_sync.cache_clear()


def failing(number: int) -> object:
    """Return a system call that a file system does not know."""

    def call(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", WITHOUT_LOCKS)
def test_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, warnings: list[str], number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(number))
    with storage.locked(str(tmp_path)):
        (tmp_path / "a").touch()
    (message,) = caplog.messages
    assert message == f"{tmp_path}: can't be locked ({os.strerror(number)}): make sure that no other run writes here"


@pytest.mark.parametrize("number", WITHOUT_SYNC)
def test_a_file_system_without_fsync_is_used_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, warnings: list[str], number: int
) -> None:
    monkeypatch.setattr(os, "fsync", failing(number))
    storage.make_folder(str(tmp_path / "a" / "b"))
    for name in ("1", "2"):
        storage.write_bytes(str(tmp_path / "a" / "b" / name), b"content")
    assert (tmp_path / "a" / "b" / "2").read_bytes() == b"content"
    (message,) = caplog.messages
    assert message.startswith(f"the output can't be flushed to disk ({os.strerror(number)})")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_file_that_did_not_reach_the_disk_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", failing(number))
    with pytest.raises(OSError, match=f"{os.strerror(number)}: '{tmp_path}/a'"):
        storage.write_bytes(str(tmp_path / "a"), b"content")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_listed_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, warnings: list[str]
) -> None:
    monkeypatch.setattr(os, "open", failing(errno.EACCES))
    storage.write_bytes(str(tmp_path / "a"), b"content")
    assert (tmp_path / "a").read_bytes() == b"content"
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "the output can't be flushed to disk (Permission denied)"
    ]


class Calls:
    """Notes the order in which files are flushed and renamed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self._fsync, self._replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.replace)

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        self.made.append("sync the temporary file" if name.endswith(".tmp") else f"sync {name}")

    def replace(self, source: str, target: str) -> None:
        self._replace(source, target)
        self.made.append(f"name {os.path.basename(target)}")


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc")
def test_a_file_is_on_disk_before_its_name_and_the_name_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    storage.make_folder(str(tmp_path / "a" / "b"))
    assert calls.made == ["sync a", f"sync {tmp_path.name}"]
    calls.made.clear()
    storage.write_bytes(str(tmp_path / "a" / "b" / "file"), b"content")
    assert calls.made == ["sync the temporary file", "name file", "sync b"]
    calls.made.clear()
    storage.make_folder(str(tmp_path / "a" / "b"))
    assert calls.made == []


def test_a_file_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage.write_bytes("a", b"content")
    assert storage.read_bytes("a") == b"content"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
def test_a_file_has_the_rights_that_the_user_gives_new_files(tmp_path: Path, umask: int) -> None:
    former = os.umask(umask)
    try:
        storage.write_bytes(str(tmp_path / "ours"), b"")
        (tmp_path / "plain").write_bytes(b"")
    finally:
        os.umask(former)
    assert oct((tmp_path / "ours").stat().st_mode) == oct((tmp_path / "plain").stat().st_mode)


def test_a_name_as_long_as_a_name_may_be(tmp_path: Path) -> None:
    path = str(tmp_path / ("x" * 251 + ".png"))
    storage.write_bytes(path, b"content")
    assert storage.read_bytes(path) == b"content"
    with pytest.raises(OSError, match=r"File name too long: '.*xx\.png'"):
        storage.write_bytes(str(tmp_path / ("x" * 252 + ".png")), b"content")
    assert len(os.listdir(tmp_path)) == 1


def test_a_folder_that_cannot_be_locked_for_lack_of_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", failing(errno.EACCES))
    with (
        pytest.raises(InputError, match=f"{tmp_path}: Permission denied"),
        storage.locked(str(tmp_path)),
    ):
        raise AssertionError("it is held")
