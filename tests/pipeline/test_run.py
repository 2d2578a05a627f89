"""End to end, through the command line, on the built-in sample."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import storage
from pipeline.building import graph
from pipeline.building.output_folder import prepared_output
from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.demo import demo_images
from pipeline.formats import samples

pytestmark = pytest.mark.slow

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def finished(sample: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over the sample."""
    output = tmp_path_factory.mktemp("finished") / "out"
    assert main(arguments(sample, output)) == 0
    return output


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


def arguments(sample: RunConfig, output: Path, *more: str) -> list[str]:
    """Return the command line of a run over the sample."""
    options = {
        "images": sample.images,
        "labels": sample.labels,
        "partition": sample.partition,
        "bboxes": sample.bboxes,
        "points": sample.points,
        "output": output,
        "samples_per_shard": 4,
        "min_coverage": 0.8,
    }
    return ["run", *(f"--{name}={value}" for name, value in options.items()), *more]


def hashes(output: Path) -> dict[str, str]:
    """Return the hash of every shard and manifest."""
    files = sorted([*(output / "shards").iterdir(), *(output / "manifest").iterdir()])
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def manifest_rows(output: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of all manifests by image id."""
    tables = [
        pq.ParquetFile(file, pre_buffer=False).read(use_threads=False) for file in (output / "manifest").iterdir()
    ]
    return {row["image_id"]: row for table in tables for row in table.to_pylist()}


def dataset(output: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((output / "dataset.json").read_text())
    return document


def test_images_in_are_samples_written_and_images_rejected(finished: Path) -> None:
    document = dataset(finished)
    rows = manifest_rows(finished)
    assert document["samples"] + document["rejected"] == len(demo_images()) == len(rows)
    assert sum(document["landmark_sources"].values()) == document["samples"]
    assert sum(document["rejects"].values()) == document["rejected"]
    assert {"hinted_box", "whole_image", "face_detector"} <= set(document["landmark_sources"])
    assert rows["corrupt.jpg"]["reason"] == "corrupt"
    assert rows["no_face.jpg"]["reason"] == "no_face"
    assert rows["noise_with_points.jpg"]["reason"] == "no_face"  # nothing speaks for a face at its points


def test_shards_are_contiguous_and_hold_what_dataset_json_says(finished: Path) -> None:
    document = dataset(finished)
    for split in document["splits"]:
        names = [shard["name"] for shard in document["shards"] if shard["split"] == split]
        assert names == [f"{split}-{number:06d}" for number in range(len(names))]
    for shard in document["shards"]:
        content = (finished / "shards" / f"{shard['name']}.tar").read_bytes()
        assert len(content) == shard["bytes"]
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            assert len(tar.getnames()) == 3 * shard["samples"]
            assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} <= {(0, 0, 0, "", "", 0o644)}


def test_a_sample_reads_back(finished: Path) -> None:
    document = dataset(finished)
    for sample in samples.read_samples(str(finished / "shards" / "train-000000.tar")):
        image = Image.open(io.BytesIO(sample.jpeg))
        assert image.size == (178, 218)
        planes = np.asarray(Image.open(io.BytesIO(sample.png)))
        assert planes.shape == (480, 76)
        masks = np.unpackbits(planes.reshape(-1, 96, 76), axis=0)[:40]
        labels = np.array(list(sample.description.labels.values()))
        assert list(sample.description.labels) == document["attributes"]
        assert not masks[labels == 0].any()
        assert masks[labels == 1].any(axis=(1, 2)).mean() > 0.9
        assert np.shape(sample.description.landmarks) == (68, 2)


def test_no_plan_and_no_temporary_file_is_left(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == ["dataset.json", "manifest", "report.html", "shards"]
    assert not [path for path in finished.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize("folder", ["", "shards", "manifest"])
def test_what_a_killed_run_left_half_written_is_deleted(tmp_path: Path, folder: str) -> None:
    left = tmp_path / folder / ".dataset.json.0123456789abcdef.tmp"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half")
    with prepared_output(str(tmp_path)):
        assert not left.exists()


def test_the_number_of_workers_does_not_change_a_byte(sample: RunConfig, finished: Path, tmp_path: Path) -> None:
    assert main(arguments(sample, tmp_path / "out", "--direct_num_workers=1")) == 0
    assert hashes(tmp_path / "out") == hashes(finished)
    assert dataset(tmp_path / "out") == dataset(finished)


def test_processes_instead_of_threads_do_not_change_a_byte(sample: RunConfig, finished: Path, tmp_path: Path) -> None:
    command = arguments(sample, tmp_path / "out", "--direct_running_mode=multi_processing", "--direct_num_workers=2")
    subprocess.run([sys.executable, "-m", "pipeline", *command], check=True, timeout=300)
    assert hashes(tmp_path / "out") == hashes(finished)


def test_the_order_of_the_shards_does_not_change_a_byte(
    sample: RunConfig, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = graph.BuildShards.expand

    def reversed_order(self: graph.BuildShards, names: Any) -> Any:
        import apache_beam as beam

        other = [shard["name"] for shard in reversed(dataset(finished)["shards"])]
        return real(self, names.pipeline | "Reversed" >> beam.Create(other))

    monkeypatch.setattr(graph.BuildShards, "expand", reversed_order)
    assert main(arguments(sample, tmp_path / "out", "--direct_num_workers=1")) == 0
    assert hashes(tmp_path / "out") == hashes(finished)


def test_a_second_run_builds_nothing(sample: RunConfig, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.tar")}
    monkeypatch.setattr(graph, "build_shard", lambda *_: pytest.fail("built again"))
    assert main(arguments(sample, copy)) == 0
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*.tar")} == before


@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_a_killed_run_goes_on_to_the_same_result(
    sample: RunConfig, finished: Path, tmp_path: Path, seconds: float
) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "pipeline", *arguments(sample, output, "--direct_num_workers=1")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while process.poll() is None and not list(output.glob("manifest/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05 * seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (output / "dataset.json").exists()
    assert main(arguments(sample, output)) == 0
    assert hashes(output) == hashes(finished)
    assert dataset(output) == dataset(finished)
    assert sorted(path.name for path in output.iterdir()) == ["dataset.json", "manifest", "report.html", "shards"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_goes_on(
    sample: RunConfig, finished: Path, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "pipeline", *arguments(sample, output, "--direct_num_workers=1")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while process.poll() is None and not list(output.glob("manifest/*.parquet")):
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted; run the same command again" in errors
    assert not list(output.rglob("*.tmp"))
    assert main(arguments(sample, output)) == 0
    assert hashes(output) == hashes(finished)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted", "no manifest", "damaged manifest"])
def test_only_what_is_damaged_is_built_again(sample: RunConfig, finished: Path, copy: Path, damage: str) -> None:
    tar, manifest = copy / "shards" / "train-000001.tar", copy / "manifest" / "train-000001.parquet"
    untouched = {path: path.stat().st_mtime_ns for path in copy.glob("shards/*.tar") if path != tar}
    content = bytearray(tar.read_bytes())
    if damage == "truncated":
        tar.write_bytes(content[:-600])
    elif damage == "flipped":
        content[1000] ^= 1
        tar.write_bytes(content)
    elif damage == "deleted":
        tar.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_bytes(b"PAR1")
    assert main(["verify", str(copy)]) == 1
    assert main(arguments(sample, copy)) == 0
    assert hashes(copy) == hashes(finished)
    assert {path: path.stat().st_mtime_ns for path in untouched} == untouched
    assert main(["verify", str(copy)]) == 0


def test_given_landmarks_rebuild_only_the_shard_concerned(sample: RunConfig, copy: Path, tmp_path: Path) -> None:
    before = hashes(copy)
    row = manifest_rows(copy)["no_face.jpg"]
    points = np.array(manifest_rows(copy)["portrait.jpg"]["landmarks"]).reshape(68, 2) / 2
    header = ["image_name", *(f"{axis}_{i}" for axis in "xy" for i in range(68))]
    values = [f"{value:.3f}" for value in points.T.ravel()]
    (tmp_path / "hand.csv").write_text(",".join(header) + "\n" + ",".join(["no_face.jpg", *values]) + "\n")
    assert main(arguments(sample, copy, f"--landmarks={tmp_path / 'hand.csv'}")) == 0
    after = hashes(copy)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {f"{row['shard']}.tar", f"{row['shard']}.parquet"}
    found = manifest_rows(copy)["no_face.jpg"]
    assert (found["status"], found["landmark_source"]) == ("written", "given")
    np.testing.assert_allclose(np.array(found["landmarks"]).reshape(68, 2), points, atol=1 / 64)


def test_another_attribute_table_rebuilds_everything(sample: RunConfig, copy: Path, tmp_path: Path) -> None:
    table = Path("regions/celeba.toml").read_text().replace('Smiling = ["mouth"]', 'Smiling = ["mouth", "cheeks"]')
    (tmp_path / "mine.toml").write_text(table.replace('name = "celeba"', 'name = "mine"'))
    before = hashes(copy)
    assert main(arguments(sample, copy, f"--attribute_table={tmp_path / 'mine.toml'}")) == 0
    assert not set(before.items()) & set(hashes(copy).items())
    assert dataset(copy)["attribute_table"]["name"] == "mine"


def test_other_options_do_not_delete_a_former_run(
    sample: RunConfig, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashes(copy)
    assert main(arguments(sample, copy, "--samples_per_shard=1000")) == 2
    assert "choose another --output" in capsys.readouterr().err
    assert hashes(copy) == before
    assert (copy / "dataset.json").exists()
    assert not (copy / "plan").exists()


def test_crop_none_only_resizes(sample: RunConfig, tmp_path: Path) -> None:
    assert main(arguments(sample, tmp_path / "out", "--crop=none")) == 0
    row = manifest_rows(tmp_path / "out")["whole photograph.jpg"]
    assert row["crop"] == [0, 0, 512, 512]
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_low_coverage_is_exit_code_3(sample: RunConfig, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(sample, copy, "--min_coverage=0.99")) == 3
    assert "coverage 0." in capsys.readouterr().err


def test_missing_images_are_rejected_or_left_out(
    sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = Path(shutil.copytree(sample.images, tmp_path / "images"))
    (images / "portrait.jpg").unlink()
    here = dataclasses.replace(sample, images=str(images))
    assert main(arguments(here, tmp_path / "all")) == 0
    assert manifest_rows(tmp_path / "all")["portrait.jpg"]["reason"] == "missing"
    assert f"for 1 of {len(demo_images())} label rows" in capsys.readouterr().err
    assert main(arguments(here, tmp_path / "some", "--skip_missing")) == 0
    assert "portrait.jpg" not in manifest_rows(tmp_path / "some")
    assert dataset(tmp_path / "some")["skipped_missing"] == 1


def test_labels_for_a_part_of_the_images_need_skip_unlabelled(
    sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Coverage is then that of the labelled images."""
    lines = Path(sample.labels).read_text().splitlines()
    rows = [line for line in lines[2:] if line.startswith(("portrait", "gray"))]
    (tmp_path / "labels.txt").write_text("\n".join([str(len(rows)), lines[1], *rows]) + "\n")
    command = ["run", f"--images={sample.images}", f"--labels={tmp_path / 'labels.txt'}"]
    assert main([*command, f"--output={tmp_path / 'all'}"]) == 3
    assert dataset(tmp_path / "all")["rejects"] == {"unlabelled": len(demo_images()) - 2}
    message = f"no label row in {tmp_path / 'labels.txt'} for {len(demo_images()) - 2} images"
    assert message in capsys.readouterr().err
    assert main([*command, f"--output={tmp_path / 'some'}", "--skip_unlabelled"]) == 0
    assert set(manifest_rows(tmp_path / "some")) == {"portrait.jpg", "gray.jpg"}
    assert dataset(tmp_path / "some")["rejected"] == 0


def test_the_hinted_face_wins(sample: RunConfig, tmp_path: Path) -> None:
    portrait = Image.open(Path(sample.images) / "portrait.jpg")
    both = Image.new("RGB", (480, 270))
    both.paste(portrait, (0, 0))
    both.paste(portrait, (240, 0))
    (tmp_path / "images").mkdir()
    names = Path(sample.labels).read_text().splitlines()[1]
    for name in ("left.jpg", "right.jpg"):
        both.save(tmp_path / "images" / name, quality=95)
    zeros = " ".join(["-1"] * 40)
    (tmp_path / "labels.txt").write_text(f"2\n{names}\nleft.jpg {zeros}\nright.jpg {zeros}\n")
    (tmp_path / "boxes.csv").write_text(
        "image_id,x_1,y_1,width,height\nleft.jpg,62,62,106,122\nright.jpg,302,62,106,122\n"
    )
    options = [f"--images={tmp_path / 'images'}", f"--labels={tmp_path / 'labels.txt'}"]
    assert main(["run", *options, f"--bboxes={tmp_path / 'boxes.csv'}", f"--output={tmp_path / 'out'}"]) == 0
    rows = manifest_rows(tmp_path / "out")
    middle = {name: np.array(rows[name]["landmarks"]).reshape(68, 2)[:, 0].mean() for name in rows}
    assert middle["left.jpg"] < 200
    assert middle["right.jpg"] > 280


def test_a_full_disk_fails_with_one_line_and_keeps_what_is_done(
    sample: RunConfig,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = storage.HashingWriter.write
    written = 0

    def write(self: Any, data: bytes) -> int:
        nonlocal written
        written += len(data)
        if written > 150_000:
            raise OSError(28, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(storage.HashingWriter, "write", write)
    assert main(arguments(sample, tmp_path / "out", "--direct_num_workers=1")) == 1
    errors = capsys.readouterr().err
    assert "failed" in errors and "No space left on device" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert not list((tmp_path / "out").rglob("*.tmp"))
    monkeypatch.undo()
    assert main(arguments(sample, tmp_path / "out")) == 0
    assert hashes(tmp_path / "out") == hashes(finished)


def test_a_second_run_that_fails_leaves_no_former_report(
    sample: RunConfig, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.building import sample_maker

    (copy / "shards" / "val-000000.tar").unlink()
    with monkeypatch.context() as faults:
        faults.setattr(sample_maker, "encode_packed_masks", lambda planes: 1 / 0)
        assert main(arguments(sample, copy)) == 1
    assert not (copy / "dataset.json").exists()
    assert not (copy / "report.html").exists()


def test_an_unforeseen_error_names_the_image(
    sample: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.building import sample_maker

    monkeypatch.setattr(sample_maker, "encode_packed_masks", lambda planes: 1 / 0)
    assert main(arguments(sample, tmp_path / "out", "--limit=1")) == 1
    errors = capsys.readouterr().err
    assert "portrait.jpg" in errors and "ZeroDivisionError" in errors


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_is_refused(sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    assert main(arguments(sample, tmp_path / "out")) == 2
    assert "can't write here" in capsys.readouterr().err


def test_an_output_below_a_file_is_refused(
    sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(arguments(sample, tmp_path / "file" / "out")) == 2
    assert "can't write here" in capsys.readouterr().err


def test_two_runs_at_once_are_refused(sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    with storage.locked(str(tmp_path / "out")):
        assert main(arguments(sample, tmp_path / "out")) == 2
    assert "another run is writing here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--labels=nowhere.txt"], "nowhere.txt: No such file"),
        (["--images=nowhere"], "nowhere: no such folder"),
        (["--attribute_table=nowhere.toml"], "nowhere.toml: No such file"),
        (["--samples_per_shards=3"], "unknown option '--samples_per_shards=3'"),
        (["--landmarks=regions/celeba.toml"], "regions/celeba.toml:1"),
    ],
)
def test_bad_arguments_are_exit_code_2(
    sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(arguments(sample, tmp_path / "out", *more)) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [["--samples_per_shard=0"], ["--min_coverage=2"], ["--crop=tight"], ["--seed=x"]])
def test_bad_values_are_exit_code_2(sample: RunConfig, tmp_path: Path, more: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments(sample, tmp_path / "out", *more))
    assert stopped.value.code == 2


def test_demo_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", f"--output={tmp_path / 'demo'}"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "demo")]) == 0
    assert main(["preview", str(tmp_path / "demo"), f"--output={tmp_path / 'sheet.png'}"]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 300


def test_verify_needs_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "no dataset.json" in capsys.readouterr().err
