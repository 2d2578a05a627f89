"""``attparse join``: the publisher's shards again, from a release and the reader's own images."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.release.release_json import id_problem
from tests.releases import error_line, join, samples_of, shards_of, sign_again

pytestmark = pytest.mark.slow

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def run(sample: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over the built-in sample."""
    output = tmp_path_factory.mktemp("published") / "out"
    options = [f"--{name}={getattr(sample, name)}" for name in ("images", "labels", "partition", "bboxes", "points")]
    assert main(["run", *options, f"--output={output}", "--samples_per_shard=8", "--min_coverage=0.8"]) == 0
    return output


@pytest.fixture(scope="module")
def released(run: Path) -> Path:
    """A release of that run."""
    assert main(["release", str(run), f"--output={run.parent / 'rel'}"]) == 0
    return run.parent / "rel"


def test_joined_shards_are_the_publisher_s(
    released: Path, run: Path, sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert join(released, sample, tmp_path / "joined") == 0
    assert "shards byte-identical to the publisher's" in capsys.readouterr().out
    assert shards_of(tmp_path / "joined") == shards_of(run)
    assert main(["verify", str(tmp_path / "joined")]) == 0


@pytest.mark.parametrize("options", [["--resolution=218x178"], ["--resolution=source"], ["--without_labels"]])
def test_other_releases_join_to_the_same_shards(
    run: Path, sample: RunConfig, tmp_path: Path, options: list[str]
) -> None:
    assert main(["release", str(run), f"--output={tmp_path / 'rel'}", *options]) == 0
    assert main(["verify", str(tmp_path / "rel")]) == 0
    labels = [f"--labels={sample.labels}"] if options == ["--without_labels"] else []
    assert join(tmp_path / "rel", sample, tmp_path / "joined", *labels) == 0
    assert shards_of(tmp_path / "joined") == shards_of(run)


def test_a_refined_run_without_a_crop_is_joined_to_the_same_shards(sample: RunConfig, tmp_path: Path) -> None:
    options = ["--refine=segmentation", "--attribute_table=refined", "--crop=none", "--min_coverage=0.5", "--limit=10"]
    run = tmp_path / "out"
    assert main(["run", f"--images={sample.images}", f"--labels={sample.labels}", f"--output={run}", *options]) == 0
    assert main(["release", str(run), f"--output={tmp_path / 'rel'}", "--resolution=218x178"]) == 0
    assert join(tmp_path / "rel", sample, tmp_path / "joined") == 0
    assert shards_of(tmp_path / "joined") == shards_of(run)
    assert "under_eyes" in pq.read_schema(tmp_path / "rel" / "landmarks.parquet").names


def test_the_reader_s_labels_count_where_they_are_given(released: Path, sample: RunConfig, tmp_path: Path) -> None:
    lines = Path(sample.labels).read_text().splitlines()
    names = lines[1].split()
    rows = {cells[0]: cells[1:] for cells in (line.rsplit(None, 40) for line in lines[2:])}
    flipped = [" ".join([name, *("-1" if v == "1" else "1" for v in values)]) for name, values in rows.items()]
    (tmp_path / "labels.txt").write_text("\n".join([str(len(flipped) - 1), " ".join(names), *flipped[1:]]) + "\n")
    code = join(released, sample, tmp_path / "joined", f"--labels={tmp_path / 'labels.txt'}", "--min_coverage=0.5")
    assert code == 0
    document = json.loads((tmp_path / "joined" / "dataset.json").read_text())
    assert document["rejects"] == {"unlabelled": 1}
    assert main(["verify", str(tmp_path / "joined")]) == 0
    for joined in samples_of(tmp_path / "joined"):
        values = rows[joined.description.image_id]
        assert list(joined.description.labels.values()) == [int(value == "-1") for value in values]


@pytest.fixture
def images(sample: RunConfig, tmp_path: Path) -> Path:
    """A copy of the sample's images, to be changed."""
    shutil.copytree(sample.images, tmp_path / "images")
    return tmp_path / "images"


def test_images_that_differ_or_are_missing_are_named_and_counted(
    released: Path, run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = [sample.description.image_id for sample in samples_of(run)]
    (images / written[0]).unlink()
    (images / written[1]).write_bytes((images / written[2]).read_bytes())
    command = ["join", str(released), f"--images={images}", f"--output={tmp_path / 'joined'}"]
    assert main(command) == 3
    printed = capsys.readouterr().out
    assert f"1 image rejected as missing: {written[0]}" in printed
    assert f"1 image rejected as differs: {written[1]}" in printed
    document = json.loads((tmp_path / "joined" / "dataset.json").read_text())
    assert (document["samples"], document["rejects"]) == (len(written) - 2, {"missing": 1, "differs": 1})
    assert main(["verify", str(tmp_path / "joined")]) == 0


def test_a_join_builds_only_what_is_not_done(
    released: Path, run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["join", str(released), f"--images={images}", f"--output={tmp_path / 'joined'}"]
    assert main(command) == 0
    count = len(shards_of(run))
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "joined" / "shards").iterdir()}
    (tmp_path / "joined" / "shards" / "train-000000.tar").unlink()
    capsys.readouterr()
    assert main(command) == 0
    assert f"{count - 1} of {count} shards done already" in capsys.readouterr().err
    assert shards_of(tmp_path / "joined") == shards_of(run)
    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "joined" / "shards").iterdir()}
    assert {name for name in times if again[name] != times[name]} == {"train-000000.tar"}


def test_an_id_that_leads_out_of_the_folder_is_never_opened(
    released: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_id = pq.read_table(released / "landmarks.parquet")["image_id"][0].as_py()
    (tmp_path / "secret.jpg").write_bytes((images / image_id).read_bytes())
    copy = with_column(released, tmp_path / "rel", "image_id", lambda ids: ["../secret.jpg", *ids[1:]])
    line = error_line(capsys, "join", copy, f"--images={images}", f"--output={tmp_path / 'joined'}")
    assert "image_id '../secret.jpg', expected a plain path below the image folder" in line
    assert not (tmp_path / "joined").exists()
    assert main(["verify", str(copy)]) == 1
    assert "image_id '../secret.jpg'" in capsys.readouterr().err


def test_other_versions_are_told(
    released: Path, sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "rel"
    shutil.copytree(released, copy)
    document = json.loads((copy / "release.json").read_text())
    document["dataset"]["versions"]["pillow"] = "1.0"
    (copy / "release.json").write_text(json.dumps(document))
    assert join(copy, sample, tmp_path / "joined") == 0
    assert "made with other versions, so shards may differ in their bytes: pillow 1.0 there" in capsys.readouterr().err


def test_what_can_t_be_joined_is_told_in_one_line(
    released: Path, run: Path, sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: object) -> str:
        return error_line(capsys, *arguments)

    options = [f"--images={sample.images}", f"--output={tmp_path / 'joined'}"]
    assert "no release.json, expected a folder that attparse release wrote" in told("join", run, *options)
    assert "no such folder" in told("join", released, "--images=nowhere", f"--output={tmp_path / 'joined'}")
    assert not (tmp_path / "joined").exists()
    copy = tmp_path / "copy"
    shutil.copytree(released, copy)
    (copy / "masks" / "train-000000.tar").write_bytes(b"x")
    assert "train-000000.tar: damaged, its sha256 differs" in told("join", copy, *options)
    (copy / "landmarks.parquet").unlink()
    assert "landmarks.parquet: missing, though the release lists it" in told("join", copy, *options)
    document = json.loads((copy / "release.json").read_text())
    (copy / "release.json").write_text(json.dumps({**document, "release_version": 9}))
    assert "release_version is 9" in told("join", copy, *options)


PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def test_a_join_takes_beam_s_options_as_a_run_does(
    released: Path, run: Path, sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["join", str(released), f"--images={sample.images}", f"--output={tmp_path / 'joined'}"]
    assert main([*command, "--dry_run=true"]) == 0
    assert "dry run: nothing was written or submitted" in capsys.readouterr().out
    assert not (tmp_path / "joined").exists()
    assert "unknown option '--direct_workers=2'" in error_line(capsys, *command, "--direct_workers=2")
    subprocess.run([sys.executable, "-m", "pipeline", *command, *PROCESSES], check=True, timeout=300)
    assert shards_of(tmp_path / "joined") == shards_of(run)


def test_a_process_that_finds_the_release_damaged_is_heard(released: Path, sample: RunConfig, tmp_path: Path) -> None:
    copy = tmp_path / "rel"
    shutil.copytree(released, copy)
    (copy / "masks" / "train-000000.tar").write_bytes(b"x")
    command = ["join", str(copy), f"--images={sample.images}", f"--output={tmp_path / 'joined'}", *PROCESSES]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *command], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 2
    assert "train-000000.tar: damaged, its sha256 differs" in done.stderr.splitlines()[-1]


def test_a_join_records_the_versions_that_decided_its_bytes(
    released: Path, run: Path, sample: RunConfig, tmp_path: Path
) -> None:
    copy = tmp_path / "rel"
    shutil.copytree(released, copy)
    document = json.loads((copy / "release.json").read_text())
    published = document["dataset"]["versions"]
    published |= {"pillow": "1.0", "mediapipe": "0.1"}
    (copy / "release.json").write_text(json.dumps(document))
    assert join(copy, sample, tmp_path / "joined") == 0
    own = json.loads((run / "dataset.json").read_text())["versions"]
    expected = {**published, "pillow": own["pillow"]}
    assert json.loads((tmp_path / "joined" / "dataset.json").read_text())["versions"] == expected


def test_a_join_that_matches_nothing_is_refused_before_anything_is_written(
    released: Path, sample: RunConfig, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["join", str(released), f"--images={images}", f"--output={tmp_path / 'joined'}"]
    lines = Path(sample.labels).read_text().splitlines()
    other = [lines[0], lines[1], *(f"x_{line}" for line in lines[2:])]
    (tmp_path / "other.txt").write_text("\n".join(other) + "\n")
    line = error_line(capsys, *command, f"--labels={tmp_path / 'other.txt'}")
    assert "other.txt: none of" in line and "found 'x_" in line and "expected names such as" in line
    for path in images.iterdir():
        path.rename(images / f"x_{path.name}")
    line = error_line(capsys, *command)
    assert "landmarks.parquet: none of" in line and "expected names such as 'x_" in line
    shutil.rmtree(images)
    images.mkdir()
    assert "no image files" in error_line(capsys, *command)
    assert not (tmp_path / "joined").exists()


Change: TypeAlias = Callable[[list[Any]], list[Any]]
"""Returns the values of a column in another way."""


def with_column(released: Path, folder: Path, column: str, values_of: Change) -> Path:
    """Copy a release with another column of landmarks.parquet, rightly signed."""
    shutil.copytree(released, folder)
    file = pq.ParquetFile(released / "landmarks.parquet")
    index = file.schema_arrow.get_field_index(column)
    groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
    with pq.ParquetWriter(folder / "landmarks.parquet", file.schema_arrow) as writer:
        for number, group in enumerate(groups):
            values = group[column].to_pylist()
            changed = pa.array(values_of(values) if number == 0 else values, file.schema_arrow.field(index).type)
            writer.write_table(group.set_column(index, file.schema_arrow.field(index), changed))
    sign_again(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda keys: ["../../evil", *keys[1:]], "key '../../evil' of image"),
        (lambda keys: [keys[1], *keys[1:]], "is that of another image too"),
        (lambda keys: ["a" * 90, *keys[1:]], "at most 89"),
        (lambda keys: ["", *keys[1:]], "key '' of image"),
    ],
)
def test_keys_that_cannot_be_member_names_are_refused(
    released: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, message: str
) -> None:
    copy = with_column(released, tmp_path / "rel", "key", change)
    line = error_line(capsys, "join", copy, f"--images={images}", f"--output={tmp_path / 'joined'}")
    assert "landmarks.parquet: " in line and message in line
    assert not (tmp_path / "joined").exists()
    assert main(["verify", str(copy)]) == 1
    assert message in capsys.readouterr().err


def test_ids_and_keys_must_be_there() -> None:
    assert id_problem([None], ["a"]) == "row 0 has no image_id"
    assert "key None of image 'a.jpg'" in str(id_problem(["a.jpg"], [None]))
    assert id_problem(["a.jpg", "b.jpg"], ["a", "b"]) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(resolution="1x1"), "resolution is '1x1', expected one of 96x76"),
        (lambda d: d["row_groups"].popitem(), "row_groups and shards differ in"),
        (lambda d: d["files"].pop("landmarks.parquet"), "files has no 'landmarks.parquet'"),
        (lambda d: d["files"].pop("masks/train-000000.tar"), "files has no 'masks/train-000000.tar'"),
        (lambda d: d["files"]["README.md"].update(sha256="x"), "sha256"),
        (lambda d: d["files"]["README.md"].update(bytes=-1), "bytes"),
        (lambda d: d["row_groups"].update({"train-000000": [99, 1]}), "expected at least 100"),
        (lambda d: d["row_groups"].update({"train-000000": [0, 0]}), "0 rows for shard train-000000"),
    ],
)
def test_a_release_file_that_does_not_fit_together_is_refused(
    released: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Any], object],
    message: str,
) -> None:
    copy = tmp_path / "rel"
    shutil.copytree(released, copy)
    document = json.loads((copy / "release.json").read_text())
    change(document)
    (copy / "release.json").write_text(json.dumps(document))
    assert message in error_line(capsys, "join", copy, f"--images={images}", f"--output={tmp_path / 'joined'}")
    assert not (tmp_path / "joined").exists()


def test_only_what_decides_its_bytes_makes_a_joined_shard_out_of_date(
    released: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "rel"
    shutil.copytree(released, copy)
    command = ["join", str(copy), f"--images={images}", f"--output={tmp_path / 'joined'}"]
    assert main(command) == 0
    count = len(shards_of(tmp_path / "joined"))
    (copy / "README.md").write_text("another text")
    sign_again(copy)
    capsys.readouterr()
    assert main(command) == 0
    assert f"{count} of {count} shards done already" in capsys.readouterr().err
    with (copy / "masks" / "train-000000.tar").open("ab") as stream:
        stream.write(bytes(512))
    sign_again(copy)
    assert main(command) == 0
    assert f"{count - 1} of {count} shards done already" in capsys.readouterr().err
