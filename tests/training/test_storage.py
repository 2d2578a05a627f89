"""The trainer's files: never waited for, whole and on disk before they have a name, with the rights of new files."""

from __future__ import annotations

import errno
import functools
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from training import storage
from training.cli_common import DONE, UNUSABLE, DataError, run_command


def test_a_pipe_is_not_waited_for_and_a_device_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "best.pt")
    for path in (str(tmp_path / "best.pt"), "/dev/zero"):
        with pytest.raises(DataError, match=f"^{path}: not a regular file$"):
            storage.read_bytes(path)
    with pytest.raises(DataError, match="Is a directory"):
        storage.read_bytes(str(tmp_path))


def test_nothing_takes_the_place_of_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last.pt")
    with pytest.raises(OSError, match="not a regular file"):
        storage.write_text(str(tmp_path / "last.pt"), "text")
    assert os.listdir(tmp_path) == ["last.pt"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_file_has_the_rights_that_the_user_gives_new_files(tmp_path: Path, umask: int) -> None:
    former = os.umask(umask)
    try:
        storage.write_text(str(tmp_path / "new" / "ours"), "text")
        (tmp_path / "plain").write_bytes(b"")
    finally:
        os.umask(former)
    assert oct((tmp_path / "new" / "ours").stat().st_mode) == oct((tmp_path / "plain").stat().st_mode)


@pytest.fixture
def unsupported(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """Give the file system an error of its own for flushing."""

    def fsync(_: int) -> NoReturn:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(os, "fsync", fsync)
    storage._warn_of_sync.cache_clear()
    return int(request.param)


@pytest.mark.parametrize(
    "unsupported", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM], indirect=True, ids=os.strerror
)
def test_a_file_system_without_fsync_is_used_with_one_warning(
    tmp_path: Path, unsupported: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("last.pt", "best.pt"):
        storage.write_text(str(tmp_path / "run" / name), "text")
    assert sorted(os.listdir(tmp_path / "run")) == ["best.pt", "last.pt"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"the output can't be flushed to disk ({os.strerror(unsupported)})")


@pytest.mark.parametrize("unsupported", [errno.EIO, errno.ENOSPC], indirect=True, ids=os.strerror)
def test_a_file_that_did_not_reach_the_disk_leaves_the_former_one(tmp_path: Path, unsupported: int) -> None:
    (tmp_path / "best.pt").write_bytes(b"former")
    with pytest.raises(OSError, match=f"{os.strerror(unsupported)}: '{tmp_path}/best.pt'"):
        storage.write_text(str(tmp_path / "best.pt"), "text")
    assert os.listdir(tmp_path) == ["best.pt"]
    assert (tmp_path / "best.pt").read_bytes() == b"former"


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    long = "x" * 300
    for path, problem in ((f"{tmp_path}/file/below", "Not a directory"), (f"{tmp_path}/{long}", "File name too long")):
        assert run_command("attparse-export", functools.partial(storage.write_text, path, "text")) == UNUSABLE
        assert capsys.readouterr().err == f"attparse-export: {path}: {problem}\n"


def test_what_cannot_be_encoded_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"b\xe7")
    storage.write_text(str(tmp_path / "metrics.csv"), name)
    assert (tmp_path / "metrics.csv").read_text() == r"b\udce7"
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", printed)
    assert run_command("attparse-predict", lambda: print(name)) == DONE
    printed.seek(0)
    assert printed.read() == "b\\udce7\n"


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(b"x" * 3_000_000)
    assert storage.read_bytes(str(path), 3_000_000) == path.read_bytes()
    with pytest.raises(DataError, match=f"^{path}: found more than 2,999,999 bytes, expected a smaller file$"):
        storage.read_bytes(str(path), 2_999_999)


def test_a_folder_without_the_right_to_write_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{tmp_path}/x1")

    def work() -> None:
        with storage.locked(str(tmp_path)):
            raise AssertionError("not reached")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert run_command("attparse-train", work) == UNUSABLE
    assert capsys.readouterr().err == f"attparse-train: {tmp_path}: Permission denied\n"
