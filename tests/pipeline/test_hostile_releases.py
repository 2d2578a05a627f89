"""Hostile releases: join and verify refuse the same ones, in one line, and nothing is written outside --output."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.building import shard as building_shard
from pipeline.building.annotate import open_annotator
from pipeline.building.complete import describe_run
from pipeline.building.output_folder import prepared_output, save_pending_plans
from pipeline.building.runner import Runner
from pipeline.building.settings import BuildSettings
from pipeline.building.stopwatch import Stopwatch
from pipeline.cli import main
from pipeline.config import JoinConfig
from pipeline.errors import InputError
from pipeline.formats.dataset_json import DatasetFile, build_dataset_file
from pipeline.formats.parquet_files import MAX_GROUP_ROWS
from pipeline.records import ShardPlan, ShardSummary
from pipeline.release import join as join_module
from pipeline.release.join import join
from pipeline.release.verify_release import verify_release
from regions.messages import one_line
from regions.tar_files import MAX_MEMBER_BYTES
from tests.releases import error_line, files_of, sign_again
from tests.synthetic import annotated, jpeg_file, rejected, write_output

Change: TypeAlias = Callable[[Path], object]
"""Makes a release hostile."""

IDS = ("a.jpg", "bb.jpg", "ccc.jpg", "dddd.jpg")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images of a run, the run, and its release ``rel``."""
    return publish(tmp_path_factory.mktemp("published"), IDS)


def publish(folder: Path, image_ids: Sequence[str]) -> Path:
    """Write images, a run over them, and its release."""
    (folder / "images").mkdir()
    samples = []
    for number, image_id in enumerate(image_ids):
        content = jpeg_file(seed=number)
        (folder / "images" / image_id).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        samples.append(dataclasses.replace(annotated(image_id=image_id), sha256=sha256))
    write_output(folder, {"train-000000": [*samples[:2], rejected(image_id="r.jpg")], "test-000000": samples[2:]})
    assert main(["release", str(folder / "out"), f"--output={folder / 'rel'}"]) == 0
    return folder


def edit_json(change: Callable[[dict[str, Any]], object]) -> Change:
    """Return a change of release.json."""

    def edit(folder: Path) -> None:
        path = folder / "release.json"
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edit


def edit_dataset(change: Callable[[dict[str, Any]], object]) -> Change:
    return edit_json(lambda document: change(document["dataset"]))


def replace_json(change: Callable[[bytes], bytes]) -> Change:
    """Return a change of the bytes of release.json."""

    def replace(folder: Path) -> None:
        path = folder / "release.json"
        path.write_bytes(change(path.read_bytes()))

    return replace


def edit_column(name: str, values_of: Callable[[list[Any]], list[Any]]) -> Change:
    """Return a change of a column of the first row group of landmarks.parquet."""

    def edit(folder: Path) -> None:
        path = folder / "landmarks.parquet"
        groups = [pq.ParquetFile(path).read_row_group(number) for number in range(2)]
        kind = groups[0].schema.field(name).type
        index = groups[0].schema.get_field_index(name)
        with pq.ParquetWriter(path, groups[0].schema.set(index, pa.field(name, kind))) as writer:
            for number, group in enumerate(groups):
                values = group[name].to_pylist()
                changed = pa.array(values_of(values) if number == 0 else values, kind)
                writer.write_table(group.set_column(index, pa.field(name, kind), changed))
        sign_again(folder)

    return edit


def first(value: object) -> Callable[[list[Any]], list[Any]]:
    """Return the change of a column that replaces its first value."""
    return lambda values: [value, *values[1:]]


def edit_tables(change: Callable[[pa.Table], pa.Table], **options: Any) -> Change:
    """Return a change of all row groups of landmarks.parquet."""

    def edit(folder: Path) -> None:
        path = folder / "landmarks.parquet"
        groups = [change(pq.ParquetFile(path).read_row_group(number)) for number in range(2)]
        with pq.ParquetWriter(path, groups[0].schema, **options) as writer:
            for group in groups:
                writer.write_table(group, row_group_size=1 << 30)
        sign_again(folder)

    return edit


def repeated_rows(folder: Path) -> None:
    """Add row groups that belong to no shard."""
    path = folder / "landmarks.parquet"
    groups = [pq.ParquetFile(path).read_row_group(number) for number in (0, 1, 1)]
    with pq.ParquetWriter(path, groups[0].schema) as writer:
        for group in groups:
            writer.write_table(group)
    sign_again(folder)


def repeated_text(count: int, text: str) -> Change:
    """Return a change that lets some hundred bytes stand for many rows of a text, and states their number."""

    def edit(folder: Path) -> None:
        column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([text]))
        options = {"row_group_size": count, "store_schema": False, "compression": "zstd"}
        pq.write_table(pa.table({"sha256": column}), folder / "landmarks.parquet", **options)
        assert (folder / "landmarks.parquet").stat().st_size < 4000
        document = json.loads((folder / "release.json").read_text())
        document["row_groups"] = {"train-000000": [0, 1], "test-000000": [1, 0]}
        document["dataset"]["shards"][0]["samples"] = count
        document["dataset"]["samples"] = count + 2
        (folder / "release.json").write_text(json.dumps(document))
        sign_again(folder)

    return edit


def edit_member(ending: str, change: Callable[[bytes], bytes]) -> Change:
    """Return a change of a member of the first sample of a mask shard."""

    def edit(folder: Path) -> None:
        members = members_of(folder)
        index = next(i for i, (name, _) in enumerate(members) if name.endswith(ending))
        members[index] = (members[index][0], change(members[index][1]))
        write_members(folder, members)

    return edit


def edit_members(change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]]) -> Change:
    return lambda folder: write_members(folder, change(members_of(folder)))


def members_of(folder: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(folder / "masks" / "train-000000.tar") as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def write_members(folder: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(folder / "masks" / "train-000000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    sign_again(folder)


def special_member(**fields: Any) -> Change:
    """Return a change that puts a member of another kind first in a mask shard."""

    def put(folder: Path) -> None:
        path = folder / "masks" / "train-000000.tar"
        info = tarfile.TarInfo("a.masks.png")
        for name, value in fields.items():
            setattr(info, name, value)
        path.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + path.read_bytes())
        sign_again(folder)

    return put


def sparse_member(size: int, kind: bytes = tarfile.REGTYPE) -> Change:
    """Return a change that makes a mask shard of one member of this size, which takes no space on disk."""

    def put(folder: Path) -> None:
        path = folder / "masks" / "train-000000.tar"
        info = tarfile.TarInfo("a.masks.png")
        info.size, info.type = size, kind
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
        sign_again(folder)

    return put


def edit_description(**fields: Any) -> Change:
    return edit_member("json", lambda text: json.dumps({**json.loads(text), **fields}).encode())


def png_of(size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("L", size).save(stream, "PNG")
    return stream.getvalue()


def link_to(target: str, name: str) -> Change:
    def link(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return link


def pipe(name: str) -> Change:
    def make(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return make


def replaced(name: str, content: Callable[[bytes], bytes]) -> Change:
    """Return a change of the bytes of a file, rightly signed."""

    def replace(folder: Path) -> None:
        (folder / name).write_bytes(content((folder / name).read_bytes()))
        sign_again(folder)

    return replace


def folder_for(name: str) -> Change:
    def make(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return make


LANDMARKS = [[10.0 + i, 20.0 + i % 7] for i in range(68)]

HOSTILE: dict[str, tuple[Change, str]] = {
    # names
    "a shard above the folder": (
        edit_dataset(lambda d: d["shards"][0].update(name="../../train-000000")),
        "release.json: ",
    ),
    "a shard with an absolute name": (edit_dataset(lambda d: d["shards"][0].update(name="/train-000000")), "name"),
    "a shard with a line break": (edit_dataset(lambda d: d["shards"][0].update(name="train-000000\n")), "name"),
    "a shard with a zero character": (edit_dataset(lambda d: d["shards"][0].update(name="train-000000\0")), "name"),
    "a shard with a drive letter": (edit_dataset(lambda d: d["shards"][0].update(name="C:\\train-000000")), "name"),
    "a shard twice": (edit_dataset(lambda d: d["shards"].append(d["shards"][0])), "more than once"),
    "a file above the folder": (
        edit_json(lambda d: d["files"].update({"../evil.tar": d["files"]["README.md"]})),
        "files has '../evil.tar'",
    ),
    "a file with full-width dots": (
        edit_json(lambda d: d["files"].update({"\uff0e\uff0e/evil": d["files"]["README.md"]})),
        "files has",
    ),
    "a file in other case": (
        edit_json(lambda d: d["files"].update({"readme.md": d["files"]["README.md"]})),
        "files has 'readme.md'",
    ),
    "row groups of another name": (
        edit_json(lambda d: d["row_groups"].update({"../../x": [0, 1]})),
        "row_groups and shards differ",
    ),
    "an id above the folder": (
        edit_column("image_id", first("../a.jpg")),
        "image_id '../a.jpg', expected a plain path",
    ),
    "an absolute id": (edit_column("image_id", first("/etc/passwd")), "image_id '/etc/passwd'"),
    "a remote id": (edit_column("image_id", first("gs://bucket/a.jpg")), "image_id 'gs://bucket/a.jpg'"),
    "an id with a backslash": (edit_column("image_id", first("..\\a.jpg")), "expected a plain path"),
    "an id with a zero character": (edit_column("image_id", first("a\0.jpg")), "expected a plain path"),
    "an id twice": (edit_column("image_id", first("bb.jpg")), "is there twice"),
    "an id of another shard": (edit_column("image_id", first("ccc.jpg")), "is there twice"),
    "no id": (edit_column("image_id", first(None)), "row 0 has no image_id"),
    "a key above the folder": (edit_column("key", first("../../a")), "key '../../a'"),
    "a key of 100,000 letters": (edit_column("key", first("a" * 100_000)), "at most 89"),
    "a key in Greek": (edit_column("key", first("\u03b1")), "key '\u03b1'"),
    # values
    "landmarks that are not numbers": (edit_column("landmarks", first([float("nan")] * 136)), "landmarks in or near"),
    "one infinite landmark": (edit_column("landmarks", first([float("inf"), *[50.0] * 135])), "landmarks in or near"),
    "landmarks far away": (edit_column("landmarks", first([1e9] * 136)), "landmarks in or near the image"),
    "landmarks in one point": (edit_column("landmarks", first([50.0] * 136)), "a face of at least 2 pixels"),
    "a crop without area": (edit_column("crop", first([5, 5, 5, 9])), "a crop with an area"),
    "an image of no size": (edit_column("height", first(0)), "width and height of an image"),
    "an unknown landmark source": (edit_column("landmark_source", first("oracle")), "landmark_source is 'oracle'"),
    "another split": (edit_column("split", first("val")), "split is 'val', expected train"),
    "another shard": (edit_column("shard", first("test-000000")), "shard is 'test-000000', expected train-000000"),
    "a hash that is none": (edit_column("sha256", first("0")), "expected 64 hexadecimal digits"),
    "no crop": (edit_column("crop", first(None)), "damaged: "),
    # columns and Parquet
    "heights as text": (
        edit_tables(lambda t: t.set_column(7, "height", t["height"].cast(pa.string()))),
        "column 'height' of type string",
    ),
    "no hash": (edit_column("sha256", first(None)), "column 'sha256' without a value in 1 row"),
    "landmarks of another length": (
        edit_tables(lambda t: t.set_column(5, "landmarks", pa.array([[1.0]] * 2, pa.list_(pa.float32())))),
        "of type list",
    ),
    "no column of keys": (edit_tables(lambda t: t.drop_columns(["key"])), "0 columns 'key', expected one"),
    "two columns of keys": (edit_tables(lambda t: t.append_column("key", t["key"])), "2 columns 'key', expected one"),
    "a row too few": (edit_tables(lambda t: t.slice(0, 1)), "1 row for shard train-000000, expected 2"),
    "a row too many": (edit_tables(lambda t: pa.concat_tables([t, t])), "4 rows for shard train-000000, expected 2"),
    "rows of no shard": (repeated_rows, "3 row groups, expected 2"),
    "a million rows in 4 kB": (repeated_text(1_000_000, "x"), f"expected at most {MAX_GROUP_ROWS}"),
    "10 GB of text in 4 kB": (repeated_text(10_000, "x" * 1_000_000), "texts of 10000000000 bytes in one column"),
    "20 MB of one text in 4 kB": (
        repeated_text(1, "x" * (20 << 20)),
        "bytes in one row group, expected at most 1050624",
    ),
    "text that is not UTF-8": (
        edit_tables(lambda t: t.set_column(9, "sha256", pa.array([b"\xff\xfe"] * 2).view(pa.string()))),
        "UTF8",
    ),
    "no Parquet": (replaced("landmarks.parquet", lambda _: b"PAR1"), "landmarks.parquet: "),
    # JSON
    "JSON too deep": (replace_json(lambda text: b'{"x":' * 100_000 + text + b"}" * 100_000), "not valid JSON"),
    "JSON that is not UTF-8": (replace_json(lambda text: text.replace(b'"small"', b'"\xff"')), "not valid JSON"),
    "half a surrogate": (replace_json(lambda text: text.replace(b'"small"', b'"\\ud800"')), "not valid JSON"),
    "no number": (replace_json(lambda text: text.replace(b'"seed": 0', b'"seed": NaN')), "not valid JSON"),
    "a name twice": (replace_json(lambda t: t.rstrip()[:-1] + b', "files": {}}'), "'files' is there twice"),
    "a huge number": (replace_json(lambda t: t.replace(b'"seed": 0', b'"seed": 1' + b"0" * 5000)), "out of range"),
    "a list": (replace_json(lambda text: b"[]"), "release.json: "),
    "nothing": (replace_json(lambda text: b""), "not valid JSON"),
    "no shards": (edit_dataset(lambda d: d.pop("shards")), "missing required field `shards`"),
    "samples as text": (edit_dataset(lambda d: d["shards"][0].update(samples="2")), "Expected `int`"),
    "more samples than shards": (edit_dataset(lambda d: d.update(samples=10**12)), "samples is 1000000000000"),
    "a version with escapes": (edit_dataset(lambda d: d["versions"].update(pillow="1\n\x1b[31m")), "versions"),
    "row groups without end": (
        edit_json(lambda d: d["row_groups"].update({"train-000000": [0, 2**62]})),
        "2 row groups, expected at least 3",
    ),
    # samples
    "labels of other attributes": (
        edit_member("json", lambda text: text.replace(b"Bald", b"Bold")),
        "labels are not those of release.json",
    ),
    "landmarks of its own": (edit_description(landmarks=LANDMARKS), "landmarks are not those of landmarks.parquet"),
    "an id of its own": (edit_description(image_id="../../x"), "image_id is '../../x', expected 'a.jpg'"),
    "a description too deep": (edit_member("json", lambda text: b'{"x":' * 100_000), "not valid JSON"),
    "a label that is none": (edit_description(labels={"Bald": 7, "Big_Nose": 0, "Young": 0}), "labels"),
    "a crop as wide as the world": (edit_description(crop=[0, 0, 1 << 40, 1]), "crop"),
    "masks of another size": (edit_member("png", lambda _: png_of((76, 97))), "masks have shape"),
    "masks that are no image": (edit_member("png", lambda _: b"%!PS"), "masks are not a PNG"),
    "a mask where the label is no": (
        edit_member("json", lambda text: text.replace(b'"Bald":1', b'"Bald":0')),
        "mask of Bald is not empty",
    ),
    "a sample too few": (edit_members(lambda members: members[:-2]), "1 sample, expected 2"),
    "a sample twice": (edit_members(lambda members: [*members[:2], *members[:2]]), "key is 'a', expected 'bb'"),
    "a member above the folder": (
        edit_members(lambda members: [("../evil.masks.png", members[0][1]), *members[1:]]),
        "member '../evil.masks.png'",
    ),
    "a member with an absolute name": (
        edit_members(lambda members: [("/evil.masks.png", members[0][1]), *members[1:]]),
        "letters, digits",
    ),
    "a symbolic link": (special_member(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is not a plain file"),
    "a hard link": (special_member(type=tarfile.LNKTYPE, linkname="none"), "is not a plain file"),
    "a device": (special_member(type=tarfile.CHRTYPE, devmajor=1, devminor=5), "is not a plain file"),
    "a folder": (special_member(type=tarfile.DIRTYPE), "is not a plain file"),
    "an extended header of a gigabyte": (sparse_member(1 << 30, tarfile.XHDTYPE), "is not a plain file"),
    "a long name of a gigabyte": (sparse_member(1 << 30, tarfile.GNUTYPE_LONGNAME), "is not a plain file"),
    "a member of 6 GB": (sparse_member(6 << 30), f"expected at most {MAX_MEMBER_BYTES}"),
    "a member of negative size": (sparse_member(-1), "damaged header"),
    "no tar file": (replaced("masks/train-000000.tar", lambda _: b"x" * 2000), "damaged header"),
    "half a tar file": (replaced("masks/train-000000.tar", lambda content: content[:700]), "the file ends within"),
    # what is no file
    "a mask shard that is a folder": (folder_for("masks/train-000000.tar"), "train-000000.tar: "),
    "a folder that links to the whole machine": (
        lambda folder: (folder / "more").symlink_to("/"),
        "more: a link to a folder, expected a folder of files",
    ),
    "landmarks that link to themselves": (link_to("landmarks.parquet", "landmarks.parquet"), "landmarks.parquet: "),
    "a mask shard that is a pipe": (pipe("masks/train-000000.tar"), "train-000000.tar: "),
    "landmarks that are a pipe": (pipe("landmarks.parquet"), "landmarks.parquet: "),
    "release.json that is a pipe": (pipe("release.json"), "release.json"),
    "a mask shard that is a device": (link_to("/dev/zero", "masks/train-000000.tar"), "train-000000.tar: "),
    "a mask shard that links to nothing": (link_to("/nowhere", "masks/train-000000.tar"), "train-000000.tar: "),
}


def build_without_beam(_: Runner, settings: BuildSettings, plans: Iterable[ShardPlan]) -> DatasetFile | None:
    """Build the shards of a join in this process; a failure ends it, as it ends a run."""
    with prepared_output(settings.output):
        pending, names = save_pending_plans(settings.images, settings.output, plans)
        annotator = open_annotator(settings, Stopwatch())
        built = [building_shard.build_shard(name, settings, annotator, Stopwatch()) for name in pending]
        annotator.close()
    assert [shard.name for shard in built] == names
    return build_dataset_file(describe_run(settings), [shard for shard in built if isinstance(shard, ShardSummary)])


def state_of(folder: Path) -> dict[str, object]:
    """Return every file below a folder and what it holds."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and path.stat().st_size < 1 << 28 else None
        for path in folder.rglob("*")
        if "joined" not in path.parts
    }


@pytest.fixture
def without_beam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_module, "build_planned", build_without_beam)
    monkeypatch.setattr(join_module, "Runner", lambda *_: None)


def config_of(published: Path, release: Path) -> JoinConfig:
    return JoinConfig(str(release), str(published / "images"), str(release.parent / "joined"))


def copied(published: Path, folder: Path) -> Path:
    return shutil.copytree(published / "rel", folder / "rel")


@pytest.mark.usefixtures("without_beam")
def test_a_sound_release_passes_both(published: Path, tmp_path: Path) -> None:
    release = copied(published, tmp_path)
    joined = join(config_of(published, release))
    assert joined is not None
    assert (joined.dataset.samples, joined.dataset.rejected) == (4, 0)
    assert list(verify_release(str(release))) == []


@pytest.mark.usefixtures("without_beam")
def test_files_that_are_links_pass_as_in_the_cache_of_a_hub(published: Path, tmp_path: Path) -> None:
    blobs, release = copied(published, tmp_path).rename(tmp_path / "blobs"), tmp_path / "rel"
    (release / "masks").mkdir(parents=True)
    for name in files_of(blobs):
        (release / name).symlink_to(blobs / name)
    assert join(config_of(published, release)) is not None
    assert list(verify_release(str(release))) == []


@pytest.mark.usefixtures("without_beam")
def test_images_of_a_release_are_found_though_their_names_are_hidden(tmp_path: Path) -> None:
    """As `run` finds those that its label file names; what is no regular file is a reject."""
    published = publish(tmp_path, [".a.jpg", "bb.jpg", "pipe.jpg", "gone.jpg"])
    for name in ("pipe.jpg", "gone.jpg"):
        (published / "images" / name).unlink()
    os.mkfifo(published / "images" / "pipe.jpg")
    joined = join(config_of(published, published / "rel"))
    assert joined is not None
    assert (joined.dataset.samples, joined.dataset.rejects) == (2, {"missing": 1, "unreadable": 1})


@pytest.mark.usefixtures("without_beam")
@pytest.mark.parametrize("kind", HOSTILE)
def test_join_and_verify_refuse_the_same(published: Path, tmp_path: Path, kind: str) -> None:
    change, message = HOSTILE[kind]
    release = copied(published, tmp_path)
    change(release)
    before = state_of(tmp_path)
    with pytest.raises(InputError) as refused:
        join(config_of(published, release))
    assert message in str(refused.value)
    assert one_line(str(refused.value)) == str(refused.value)
    faults = list(verify_release(str(release)))
    assert any(message in fault for fault in faults), faults
    assert all(one_line(fault) == fault for fault in faults)
    assert state_of(tmp_path) == before
    left = [path.name for path in (tmp_path / "joined").rglob("*") if path.is_file()]
    assert "dataset.json" not in left
    assert "train-000000.tar" not in left


@pytest.mark.usefixtures("without_beam")
@pytest.mark.parametrize("kind", ["a shard above the folder", "landmarks far away", "a member of 6 GB"])
def test_a_refusal_is_one_line_and_exit_code_2(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    release = copied(published, tmp_path)
    HOSTILE[kind][0](release)
    line = error_line(capsys, "join", release, f"--images={published / 'images'}", f"--output={tmp_path / 'joined'}")
    assert HOSTILE[kind][1] in line
    assert main(["verify", str(release)]) == 1
    assert HOSTILE[kind][1] in capsys.readouterr().err


def test_a_file_that_only_the_sums_list_is_not_part_of_a_release_and_is_never_read(
    published: Path, tmp_path: Path
) -> None:
    release = copied(published, tmp_path)
    with (release / "more.bin").open("wb") as stream:
        stream.truncate(1 << 40)
    with (release / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  more.bin\n")
    assert list(verify_release(str(release))) == [f"{release / 'more.bin'}: not part of the release"]
