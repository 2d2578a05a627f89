"""Errors of reading an image: what may pass is tried again and never final, what stays is a reject."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.building import reading
from pipeline.building.reading import PAUSES, iterate_with_retries, read_image_bytes
from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.errors import ImageError, ReadError
from regions.image_files import MAX_FILE_BYTES

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("faces_found_once")]

PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ECONNRESET, errno.ENOMEM)
NAMES = ("portrait.jpg", "dark.jpg", "large.JPG")


class Faulty:
    """Stands in for `storage.read_bytes`: fails for the given image files a number of times each."""

    def __init__(self, *names: str, error: OSError, times: int = 10**6) -> None:
        self.names, self.error, self.times = names, error, times
        self.tries = dict.fromkeys(names, 0)
        self._real = storage.read_bytes

    def __call__(self, path: str, limit: int | None = None) -> bytes:
        name = Path(path).name
        if name in self.names:
            self.tries[name] += 1
            if self.tries[name] <= self.times:
                raise self.error
        return self._real(path, limit)


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the pauses between two tries."""
    monkeypatch.setattr(reading, "PAUSES", (0.0,) * len(PAUSES))


@pytest.mark.parametrize("number", PASSING)
@pytest.mark.parametrize("times", range(len(PAUSES) + 1))
def test_an_error_that_passes_only_takes_time(
    monkeypatch: pytest.MonkeyPatch, image_file: Path, number: int, times: int
) -> None:
    monkeypatch.setattr(storage, "read_bytes", Faulty("a.jpg", error=OSError(number, os.strerror(number)), times=times))
    slept: list[float] = []
    assert read_image_bytes(str(image_file), sleep=slept.append) == b"content"
    assert slept == list(PAUSES[:times])
    assert list(PAUSES) == sorted(PAUSES)


@pytest.mark.parametrize("number", PASSING)
def test_an_error_that_stays_is_no_reject(monkeypatch: pytest.MonkeyPatch, image_file: Path, number: int) -> None:
    faulty = Faulty("a.jpg", error=OSError(number, os.strerror(number)))
    monkeypatch.setattr(storage, "read_bytes", faulty)
    slept: list[float] = []
    with pytest.raises(ReadError, match=os.strerror(number)):
        read_image_bytes(str(image_file), sleep=slept.append)
    assert slept == list(PAUSES)
    assert faulty.tries == {"a.jpg": len(PAUSES) + 1}


class StoreError(Exception):
    """An object store's own error, which is no OSError."""


@pytest.mark.parametrize("error", [StoreError("503 Slow Down"), TimeoutError(), ConnectionResetError("reset by peer")])
def test_an_error_of_an_object_store_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: ConnectionResetError | StoreError | TimeoutError
) -> None:
    contents = iter([error, error, b"content"])

    def read_bytes(*_: object) -> bytes:
        content = next(contents)
        if isinstance(content, Exception):
            raise content
        return content

    monkeypatch.setattr(storage, "read_bytes", read_bytes)
    slept: list[float] = []
    assert read_image_bytes("gs://bucket/a.jpg", sleep=slept.append) == b"content"
    assert slept == list(PAUSES[:2])


def test_a_fault_of_the_program_is_not_taken_for_a_read_error(
    monkeypatch: pytest.MonkeyPatch, image_file: Path
) -> None:
    monkeypatch.setattr(storage, "read_bytes", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        read_image_bytes(str(image_file), sleep=lambda _: pytest.fail("tried again"))


def test_what_stays_is_a_reject_at_the_first_try(tmp_path: Path, image_file: Path) -> None:
    def rejected(path: Path) -> tuple[str, str]:
        with pytest.raises(ImageError) as caught:
            read_image_bytes(str(path), sleep=lambda _: pytest.fail("tried again"))
        return caught.value.reason, caught.value.detail

    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    assert rejected(tmp_path / "folder.jpg") == ("unreadable", "not a regular file")
    assert rejected(tmp_path / "pipe.jpg") == ("unreadable", "not a regular file")
    assert rejected(tmp_path / ("x" * 300)) == ("unreadable", "File name too long")
    assert rejected(image_file / "below.jpg") == ("unreadable", "Not a directory")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert rejected(tmp_path / "loop.jpg") == ("unreadable", "Too many levels of symbolic links")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    assert rejected(tmp_path / "device.jpg") == ("unreadable", "not a regular file")
    with (tmp_path / "sparse.jpg").open("wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)
    assert rejected(tmp_path / "sparse.jpg") == ("too_large", f"more than {MAX_FILE_BYTES} bytes")


def arguments(sample: RunConfig, output: Path) -> list[str]:
    options = {name: getattr(sample, name) for name in ("images", "labels", "partition", "bboxes", "points")}
    options |= {"output": output, "samples_per_shard": 4, "min_coverage": 0.5}
    return ["run", *(f"--{name}={value}" for name, value in options.items())]


def hashes(output: Path) -> dict[str, str]:
    files = [*(output / "shards").iterdir(), *(output / "manifest").iterdir()]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def shards_of(output: Path, *names: str) -> set[str]:
    """Return the shards that have the images of these names."""
    tables = [pq.read_table(file, columns=["image_id", "shard"]) for file in (output / "manifest").iterdir()]
    rows = [row for table in tables for row in table.to_pylist()]
    return {row["shard"] for row in rows if row["image_id"] in names}


@pytest.fixture(scope="module")
def finished(sample: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over the sample, without any fault."""
    pytest.importorskip("skimage")
    output = tmp_path_factory.mktemp("finished") / "out"
    assert main(arguments(sample, output)) == 0
    return output


def test_a_run_outlives_an_error_that_passes(
    sample: RunConfig, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    faulty = Faulty(*NAMES, error=OSError(errno.EIO, "Input/output error"), times=1)
    monkeypatch.setattr(storage, "read_bytes", faulty)
    assert main(arguments(sample, tmp_path / "out")) == 0
    assert faulty.tries == dict.fromkeys(NAMES, 2)
    assert hashes(tmp_path / "out") == hashes(finished)


def test_a_run_with_an_error_that_stays_builds_all_other_shards(
    sample: RunConfig,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    affected = shards_of(finished, *NAMES[:2])
    with monkeypatch.context() as faults:
        error = OSError(errno.ESTALE, "Stale file handle")
        faults.setattr(storage, "read_bytes", Faulty(*NAMES[:2], error=error))
        assert main(arguments(sample, output)) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("attparse: failed")]
    assert f"{len(affected)} of {len(list((finished / 'shards').iterdir()))} shards not built" in line
    assert "Stale file handle" in line
    assert any(name in line for name in NAMES[:2]) and all(shard in line for shard in affected)
    expected = {name: value for name, value in hashes(finished).items() if name.partition(".")[0] not in affected}
    assert hashes(output) == expected
    assert not (output / "dataset.json").exists()
    assert not list(output.rglob("*.tmp"))
    assert main(arguments(sample, output)) == 0
    assert hashes(output) == hashes(finished)
    assert main(["verify", str(output)]) == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_image_without_permission_is_a_reject(sample: RunConfig, tmp_path: Path) -> None:
    images = Path(shutil.copytree(sample.images, tmp_path / "images"))
    (images / "portrait.jpg").chmod(0)
    here = sample.__class__(**{**vars(sample), "images": str(images)})
    assert main(arguments(here, tmp_path / "out")) == 0
    rows = [
        row
        for file in (tmp_path / "out" / "manifest").iterdir()
        for row in pq.read_table(file, columns=["image_id", "reason", "detail"]).to_pylist()
    ]
    assert {"image_id": "portrait.jpg", "reason": "unreadable", "detail": "Permission denied"} in rows


def test_permission_denied_is_a_reject(monkeypatch: pytest.MonkeyPatch, image_file: Path) -> None:
    monkeypatch.setattr(
        storage, "read_bytes", Faulty("a.jpg", error=PermissionError(errno.EACCES, "Permission denied"))
    )
    with pytest.raises(ImageError, match="unreadable: Permission denied"):
        read_image_bytes(str(image_file), sleep=lambda _: pytest.fail("tried again"))


def test_a_join_with_an_error_that_stays_builds_all_others(
    sample: RunConfig,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["release", str(finished), f"--output={tmp_path / 'rel'}"]) == 0
    affected = shards_of(finished, "portrait.jpg")
    output = tmp_path / "joined"
    command = ["join", str(tmp_path / "rel"), f"--images={sample.images}", f"--output={output}"]
    with monkeypatch.context() as faults:
        faults.setattr(storage, "read_bytes", Faulty("portrait.jpg", error=OSError(errno.EIO, "Input/output error")))
        assert main(command) == 1
    assert "portrait.jpg: Input/output error" in capsys.readouterr().err
    tars = {path.name: path.read_bytes() for path in (finished / "shards").iterdir()}
    others = {name: content for name, content in tars.items() if name.partition(".")[0] not in affected}
    assert {path.name: path.read_bytes() for path in (output / "shards").iterdir()} == others
    assert not (output / "dataset.json").exists()
    assert main(command) == 0
    assert {path.name: path.read_bytes() for path in (output / "shards").iterdir()} == tars


def test_an_image_that_is_gone_after_the_listing_is_no_reject(tmp_path: Path) -> None:
    slept: list[float] = []
    with pytest.raises(ReadError, match=r"none\.jpg: No such file or directory"):
        read_image_bytes(str(tmp_path / "none.jpg"), sleep=slept.append)
    assert slept == list(PAUSES)


@pytest.mark.usefixtures("quick")
def test_a_folder_that_is_unmounted_during_a_run_leaves_no_final_reject(
    sample: RunConfig,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    with monkeypatch.context() as faults:
        gone = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        faults.setattr(storage, "read_bytes", Faulty("portrait.jpg", error=gone))
        assert main(arguments(sample, output)) == 1
    assert "portrait.jpg: No such file or directory" in capsys.readouterr().err
    assert main(arguments(sample, output)) == 0
    assert hashes(output) == hashes(finished)


class FaultyStream(io.BytesIO):
    """A file that fails with a device error once a number of bytes has been read, for a number of times."""

    def __init__(self, content: bytes, after: int, error: Exception) -> None:
        super().__init__(content)
        self._after, self._error = after, error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= self._after:
            raise self._error
        return super().read(size)


class FaultyFiles:
    """Stands in for `storage.open_read`: files with the given ending fail after a number of bytes, from one time on."""

    def __init__(self, ending: str, *, after: int = 0, times: range = range(10**6)) -> None:
        self._ending, self._after, self._times = ending, after, times
        self.opened = 0
        self._real = storage.open_read

    def __call__(self, path: str) -> IO[bytes]:
        stream = self._real(path)
        if not path.endswith(self._ending):
            return stream
        self.opened += 1
        if self.opened - 1 not in self._times:
            return stream
        with stream:
            error = OSError(errno.EIO, os.strerror(errno.EIO), path)
            return FaultyStream(stream.read(), self._after, error)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "fault",
    [
        ("former/shards/train-000000.tar", 0, range(1)),  # the first of two passes: its hash
        ("former/shards/train-000000.tar", 30_000, range(1, 2)),  # the second pass: its samples
        ("former/manifest/train-000000.parquet", 0, range(2, 10)),
    ],
)
def test_a_former_run_that_cannot_be_read_only_keeps_no_crops(
    sample: RunConfig,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: tuple[str, int, range],
) -> None:
    ending, after, times = fault
    former = Path(shutil.copytree(finished, tmp_path / "former"))
    command = [*arguments(sample, tmp_path / "again"), f"--landmarks={former}"]
    assert main(command) == 0
    faulty = FaultyFiles(ending, after=after, times=times)
    monkeypatch.setattr(storage, "open_read", faulty)
    capsys.readouterr()
    command = [*arguments(sample, tmp_path / "out"), f"--landmarks={former}"]
    assert main(command) == 0
    assert f"{ending}: Input/output error; " in capsys.readouterr().err
    assert hashes(tmp_path / "out") == hashes(tmp_path / "again")


def test_a_former_run_with_a_damaged_manifest_only_keeps_no_crops(
    sample: RunConfig, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    former = Path(shutil.copytree(finished, tmp_path / "former"))
    command = [*arguments(sample, tmp_path / "again"), f"--landmarks={former}"]
    assert main(command) == 0
    path = former / "manifest" / "train-000000.parquet"
    table = pq.ParquetFile(path, pre_buffer=False).read(use_threads=False)
    pq.write_table(table.drop_columns(["crop"]), path)
    capsys.readouterr()
    assert main([*arguments(sample, tmp_path / "out"), f"--landmarks={former}"]) == 0
    assert f"{path}: no column 'crop', expected a manifest of attparse; the crops of " in capsys.readouterr().err
    assert hashes(tmp_path / "out") == hashes(tmp_path / "again")


@pytest.fixture(scope="module")
def released(finished: Path) -> Path:
    """A release of the finished run."""
    assert main(["release", str(finished), f"--output={finished.parent / 'rel'}"]) == 0
    return finished.parent / "rel"


MASK_SHARD = "rel/masks/train-000000.tar"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("ending", "after", "times"),
    [
        (MASK_SHARD, 0, range(1)),  # the first of two passes: its hash
        (MASK_SHARD, 2000, range(1, 3)),  # the second pass: its samples
        ("rel/landmarks.parquet", 0, range(5, 7)),
    ],
)
def test_a_join_outlives_an_error_of_the_release_that_passes(
    sample: RunConfig,
    finished: Path,
    released: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    after: int,
    times: range,
) -> None:
    faulty = FaultyFiles(ending, after=after, times=times)
    monkeypatch.setattr(storage, "open_read", faulty)
    output = tmp_path / "joined"
    assert main(["join", str(released), f"--images={sample.images}", f"--output={output}"]) == 0
    assert faulty.opened > times.stop
    assert {file.name: file.read_bytes() for file in (output / "shards").iterdir()} == {
        file.name: file.read_bytes() for file in (finished / "shards").iterdir()
    }


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", [(0, range(100)), (2000, range(1, 100))])
def test_a_join_with_an_error_of_a_mask_shard_builds_all_others(
    sample: RunConfig,
    finished: Path,
    released: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: tuple[int, range],
) -> None:
    output = tmp_path / "joined"
    command = ["join", str(released), f"--images={sample.images}", f"--output={output}"]
    with monkeypatch.context() as faults:
        faults.setattr(storage, "open_read", FaultyFiles(MASK_SHARD, after=fault[0], times=fault[1]))
        assert main(command) == 1
    assert f"train-000000: {released}/masks/train-000000.tar: Input/output error" in capsys.readouterr().err
    expected = {file.name for file in (finished / "shards").iterdir()} - {"train-000000.tar"}
    assert {file.name for file in (output / "shards").iterdir()} == expected
    assert main(command) == 0


@pytest.mark.usefixtures("quick")
def test_a_join_whose_plan_meets_an_error_that_stays_is_one_line(
    sample: RunConfig,
    released: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The launching process reads the rows of the release, after the check of their hash."""
    monkeypatch.setattr(storage, "open_read", FaultyFiles("rel/landmarks.parquet", times=range(1, 100)))
    assert main(["join", str(released), f"--images={sample.images}", f"--output={tmp_path / 'joined'}"]) == 1
    assert capsys.readouterr().err == f"attparse: failed: {released}/landmarks.parquet: Input/output error\n"


def test_items_go_on_where_an_error_interrupted_them() -> None:
    faults = iter([2, 0, 3, None])

    def read() -> Iterator[int]:
        fault = next(faults)
        for item in range(4):
            if item == fault:
                raise OSError(errno.EMFILE, "Too many open files")
            yield item

    slept: list[float] = []
    assert list(iterate_with_retries("a.tar", read, sleep=slept.append)) == [0, 1, 2, 3]
    assert slept == list(PAUSES)


def test_items_whose_error_stays_are_a_read_error() -> None:
    def read() -> Iterator[int]:
        yield 0
        raise OSError(errno.ESTALE, "Stale file handle")

    slept: list[float] = []
    items = iterate_with_retries("a.tar", read, sleep=slept.append)
    assert next(items) == 0
    with pytest.raises(ReadError, match=r"^a\.tar: Stale file handle$"):
        next(items)
    assert slept == list(PAUSES)


@pytest.mark.usefixtures("quick")
def test_a_plan_that_cannot_be_read_leaves_its_shard_alone_unbuilt(
    sample: RunConfig,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    with monkeypatch.context() as faults:
        error = OSError(errno.EIO, os.strerror(errno.EIO))
        faults.setattr(storage, "read_bytes", Faulty("train-000000.npz", error=error))
        assert main(arguments(sample, output)) == 1
    assert "plan/train-000000.npz: Input/output error" in capsys.readouterr().err
    expected = {file.name for file in (finished / "shards").iterdir()} - {"train-000000.tar"}
    assert {file.name for file in (output / "shards").iterdir()} == expected
