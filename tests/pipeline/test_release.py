"""Releases: no image in them, joined back to the same bytes, damage named, read by others' tools."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from pipeline.building.sample_maker import SampleMaker
from pipeline.building.stopwatch import Stopwatch
from pipeline.cli import main
from pipeline.config import SOURCES, RunConfig
from pipeline.formats.samples import decode_packed_masks, read_members
from pipeline.release import release as release_module
from pipeline.release.dataset_card import UNNAMED, UNSTATED_LICENSE
from pipeline.release.release_json import mask_size
from regions.attributes import AttributeTable, load_packaged_table
from regions.masks import nearest_centers, unpack_masks
from tests.releases import error_line, files_of, join, samples_of, sign_again

pytestmark = pytest.mark.slow

pytest.importorskip("skimage")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(sample: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over the built-in sample."""
    output = tmp_path_factory.mktemp("released") / "out"
    options = [f"--{name}={getattr(sample, name)}" for name in ("images", "labels", "partition", "bboxes", "points")]
    options += ["--samples_per_shard=8", "--min_coverage=0.8", "--source=celeba", "--source_name=My CelebA"]
    assert main(["run", *options, f"--output={output}"]) == 0
    return output


@pytest.fixture(scope="module")
def released(run: Path) -> Path:
    """A release of that run."""
    assert main(["release", str(run), f"--output={run.parent / 'rel'}", "--url=https://example.org/rel"]) == 0
    return run.parent / "rel"


def test_what_a_release_holds(released: Path, run: Path) -> None:
    shards = [f"masks/{path.stem}.tar" for path in (run / "shards").iterdir()]
    expected = ["LICENSE.md", "README.md", "SHA256SUMS", "attribute_table.toml", "contact_sheet.png", "croissant.json"]
    assert files_of(released) == sorted([*expected, "landmarks.parquet", "rejects.csv", "release.json", *shards])
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=released, check=True)
    rejects = (released / "rejects.csv").read_text().splitlines()
    assert rejects[0] == "image_id,split,shard,reason,detail,sha256"
    assert len(rejects) - 1 == json.loads((run / "dataset.json").read_text())["rejected"] > 0
    card = (released / "README.md").read_text()
    for part in ("license: other", "path: masks/train-*.tar", "**Limitations.**", "| hinted_box |", "no_face"):
        assert part in card
    assert str(run) not in "".join(
        (released / name).read_text() for name in ("README.md", "release.json", "croissant.json")
    )


def test_a_release_names_its_source_as_the_user_does(released: Path) -> None:
    card, terms = (released / "README.md").read_text(), (released / "LICENSE.md").read_text()
    croissant = json.loads((released / "croissant.json").read_text())
    celeba = SOURCES["celeba"]
    assert celeba.citation and celeba.license and celeba.url
    assert f"My CelebA ({celeba.url})" in card.replace("\n", " ")
    assert celeba.citation in card and celeba.license in card
    assert f"My CelebA ({celeba.url})" in terms and celeba.license in terms
    assert croissant["license"] == celeba.license
    assert celeba.citation in croissant["citeAs"]
    assert croissant["name"] == "my-celeba-weak-attribute-segments"


def test_a_release_claims_nothing_of_a_source_that_is_not_named(run: Path, tmp_path: Path) -> None:
    unnamed = shutil.copytree(run, tmp_path / "unnamed")
    document = json.loads((unnamed / "dataset.json").read_text())
    document["source"] = {"name": None, "url": None, "license": None, "citation": None}
    (unnamed / "dataset.json").write_text(json.dumps(document))
    assert main(["release", str(unnamed), f"--output={tmp_path / 'rel'}"]) == 0
    card, terms, croissant = (
        (tmp_path / "rel" / name).read_text() for name in ("README.md", "LICENSE.md", "croissant.json")
    )
    for text in (card, terms, croissant):
        assert "CelebA" not in text
        assert "mmlab" not in text
    assert UNNAMED in card and UNNAMED in terms and UNSTATED_LICENSE in card
    assert json.loads(croissant)["license"] == UNSTATED_LICENSE
    assert "url" not in json.loads(croissant)


def test_a_release_runs_neither_beam_nor_a_detector(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline.cli import main;"
        f"assert main(['release', {str(run)!r}, {'--output=' + str(tmp_path / 'rel')!r}]) == 0;"
        "print(sorted({'apache_beam', 'mediapipe', 'skimage', 'dlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_larger_masks_are_those_that_the_shards_have_smaller(run: Path, tmp_path: Path) -> None:
    smaller = {sample.key: unpack_masks(decode_packed_masks(sample.png), 40) for sample in samples_of(run)}
    for resolution in ("218x178", "source"):
        to = tmp_path / resolution
        assert main(["release", str(run), f"--output={to}", f"--resolution={resolution}"]) == 0
        for path in (to / "masks").iterdir():
            for key, members in read_members(str(path), ("masks.png", "json")):
                size = mask_size(resolution, json.loads(members["json"])["crop"])
                masks = unpack_masks(decode_packed_masks(members["masks.png"], size), 40)
                if resolution == "218x178":
                    rows, cols = (nearest_centers(*of).astype(int) for of in ((218, 96), (178, 76)))
                    np.testing.assert_array_equal(masks[:, rows][:, :, cols], smaller[key])
                else:
                    share, expected = masks.mean(axis=(1, 2)), smaller[key].mean(axis=(1, 2))
                    np.testing.assert_allclose(share, expected, atol=0.01)


def test_without_labels_neither_labels_nor_masks_are_told(
    run: Path, sample: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rel = tmp_path / "rel"
    assert main(["release", str(run), f"--output={rel}", "--without_labels"]) == 0
    assert not [name for name in files_of(rel) if name.endswith(".tar")]
    names = pq.read_schema(rel / "landmarks.parquet").names
    assert not set(names) & set(load_packaged_table("celeba").attributes)
    assert "masks/" not in (rel / "README.md").read_text().split("---")[1]
    assert join(rel, sample, tmp_path / "joined") == 2
    assert "the release holds no labels, expected --labels FILE" in capsys.readouterr().err
    assert not (tmp_path / "joined").exists()


def test_no_byte_of_an_image_is_in_a_release(released: Path, run: Path, sample: RunConfig) -> None:
    """Neither members nor any 24 bytes in a row of a source image's file, or of a crop's."""
    pieces = set()
    rng = random.Random(0)  # noqa: S311
    contents = [path.read_bytes() for path in Path(sample.images).iterdir()] + [s.jpeg for s in samples_of(run)]
    for content in contents:
        for start in [0, *(rng.randrange(0, max(1, len(content) - 24)) for _ in range(200))]:
            piece = content[start : start + 24]
            if len(set(piece)) > 12:
                pieces.add(piece)
    assert len(pieces) > 5000
    for name in files_of(released):
        content = (released / name).read_bytes()
        windows = {content[i : i + 24] for i in range(len(content) - 23)}
        assert not windows & pieces, name
        if name.endswith(".tar"):
            with tarfile.open(released / name) as tar:
                assert {member.name.partition(".")[2] for member in tar} == {"masks.png", "json"}


def problems_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["verify", str(folder)])
    return code, capsys.readouterr().err


def test_one_flipped_byte_anywhere_is_found_in_its_file(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "rel"
    shutil.copytree(released, copy)
    assert problems_of(copy, capsys)[0] == 0
    rng = random.Random(1)  # noqa: S311
    for name in files_of(copy):
        content = (copy / name).read_bytes()
        for place in (0, len(content) - 1, rng.randrange(len(content))):
            damaged = bytearray(content)
            damaged[place] ^= 1
            (copy / name).write_bytes(bytes(damaged))
            code, told = problems_of(copy, capsys)
            assert code == 1
            assert f"{copy / name}" in told, (name, place)
        (copy / name).write_bytes(content)


def test_missing_and_further_files_are_named(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in files_of(released):
        copy = tmp_path / name.replace("/", "_")
        shutil.copytree(released, copy)
        (copy / name).unlink()
        (copy / "masks" / "more.txt").write_text("x")
        code, told = problems_of(copy, capsys)
        assert code == 1
        assert f"{copy / name}: " in told or f"no {name}" in told
        assert f"{copy / 'masks' / 'more.txt'}: not part of the release" in told


def test_masks_that_do_not_fit_are_named_though_all_hashes_are_right(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "rel"
    shutil.copytree(released, copy)
    path = copy / "masks" / "train-000000.tar"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"Bald":0', b'"Bold":0', 1))
    sign_again(copy)
    code, told = problems_of(copy, capsys)
    assert code == 1
    assert "labels are not those of release.json" in told


def test_what_can_t_be_released_is_told_in_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: object) -> str:
        return error_line(capsys, *arguments)

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    assert "not empty, x is there" in told("release", run, "--output", tmp_path / "full")
    assert "expected a folder apart from that of the run" in told("release", run, "--output", run / "rel")
    assert "no dataset.json" in told("release", tmp_path / "full", "--output", tmp_path / "rel")
    faulty = tmp_path / "faulty"
    shutil.copytree(run, faulty)
    (faulty / "shards" / "train-000000.tar").write_bytes(b"x")
    assert ": 5 problems, the first: " in told("release", faulty, "--output", tmp_path / "rel")


def test_the_masks_are_copied_without_a_maker_and_drawn_larger_with_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def opening(table: AttributeTable, crop: str, refine: str | None, stopwatch: Stopwatch) -> SampleMaker:
        opened.append(crop)
        return SampleMaker(table, crop, refine, stopwatch)

    monkeypatch.setattr(release_module, "SampleMaker", opening)
    assert main(["release", str(run), f"--output={tmp_path / 'copied'}"]) == 0
    assert not opened
    assert main(["release", str(run), f"--output={tmp_path / 'drawn'}", "--resolution=218x178"]) == 0
    assert len(opened) == 1


def test_a_release_that_fails_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(release_module, "dataset_card", fail)
    assert main(["release", str(run), f"--output={tmp_path / 'rel'}"]) == 1
    assert files_of(tmp_path / "rel") == []
    monkeypatch.undo()
    assert main(["release", str(run), f"--output={tmp_path / 'rel'}"]) == 0


@pytest.mark.filterwarnings("ignore")
def test_geopandas_opens_the_polygons_and_their_areas_are_those_of_the_masks(released: Path, run: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    frame = geopandas.read_parquet(released / "landmarks.parquet")
    assert frame.crs is None
    table = json.loads((run / "dataset.json").read_text())["attribute_table"]["attributes"]
    rows = {row.key: row for row in frame.itertuples()}
    areas, pixels = np.zeros(len(table)), np.zeros(len(table))
    for sample in samples_of(run):
        x0, y0, x1, y1 = sample.description.crop
        masks = unpack_masks(decode_packed_masks(sample.png), len(table))
        for index, (attribute, names) in enumerate(table.items()):
            if sample.description.labels[attribute]:
                union = shapely.union_all([getattr(rows[sample.key], name) for name in names])
                areas[index] += union.intersection(shapely.box(x0, y0, x1, y1)).area / (x1 - x0) / (y1 - y0)
                pixels[index] += masks[index].sum() / masks[index].size
    assert (areas > 0).sum() > 10
    assert pixels.sum() == pytest.approx(areas.sum(), rel=0.01)
    np.testing.assert_allclose(pixels[areas > 0], areas[areas > 0], rtol=0.06)


def test_duckdb_reads_the_landmarks(released: Path, run: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    path = [str(released / "landmarks.parquet")]
    counts = connection.execute("select count(*), max(len(landmarks)) from read_parquet(?)", path).fetchall()
    assert counts == [(len(samples_of(run)), 136)]
    wkb = connection.execute("select nose from read_parquet(?) limit 1", path).fetchone()[0]
    assert shapely.from_wkb(bytes(wkb)).area > 0
    connection.close()


READ_CROISSANT = """
import mlcroissant, sys
dataset = mlcroissant.Dataset(jsonld=sys.argv[1])
issues = dataset.metadata.ctx.issues
assert not issues.errors and not issues.warnings, (issues.errors, issues.warnings)
assert dataset.metadata.data_biases and dataset.metadata.machine_annotation_tools
records = {name: list(dataset.records(name)) for name in ("landmarks", "rejects", "masks", "descriptions")}
print({name: len(own) for name, own in records.items()})
assert len(records["landmarks"][0]["landmarks/landmarks"]) == 136
assert records["masks"][0]["masks/masks"].size == (76, 480)
"""

LOAD_ON_THE_HUB = """
import sys
from datasets import load_dataset
print({split: len(own) for split, own in load_dataset(sys.argv[1]).items()})
sample = next(iter(load_dataset(sys.argv[1], split="train", streaming=True)))
assert sample["masks.png"].size == (76, 480) and len(sample["json"]["labels"]) == 40
shards = load_dataset("webdataset", data_files={"train": f"{sys.argv[1]}/masks/train-*.tar"}, split="train")
print(len(shards), len(load_dataset("parquet", data_files=f"{sys.argv[1]}/landmarks.parquet", split="train")))
"""


def run_script(script: str, argument: Path | str, tmp_path: Path) -> str:
    environment = {**os.environ, "CROISSANT_CACHE": str(tmp_path), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "ignore", "-c", script, str(argument)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_mlcroissant_loads_the_release_and_its_records(released: Path, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlcroissant")
    document = json.loads((run / "dataset.json").read_text())
    samples, rejected = document["samples"], document["rejected"]
    printed = run_script(READ_CROISSANT, released / "croissant.json", tmp_path)
    expected = {"landmarks": samples, "rejects": rejected, "masks": samples, "descriptions": samples}
    assert printed.strip().splitlines()[-1] == str(expected)
    croissant = json.loads((released / "croissant.json").read_text())
    assert croissant["url"] == "https://example.org/rel"


def test_the_hub_s_library_reads_the_mask_shards(released: Path, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    splits = json.loads((run / "dataset.json").read_text())["splits"]
    counts = {
        name: splits[own]["samples"] for name, own in (("train", "train"), ("validation", "val"), ("test", "test"))
    }
    first, second = run_script(LOAD_ON_THE_HUB, released, tmp_path).strip().splitlines()[-2:]
    assert first == str(counts)
    assert second.split() == [str(counts["train"]), str(sum(counts.values()))]


def test_the_snippets_of_the_docs_read_a_release(released: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "release.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(snippets) == 4
    for snippet in snippets:
        run_script(f"import os; os.chdir({str(released.parent)!r})\n{snippet}", "", tmp_path)
