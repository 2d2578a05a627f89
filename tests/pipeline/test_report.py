from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import tarfile
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from pipeline import storage
from pipeline.config import SourceDataset
from pipeline.drawing import overlays
from pipeline.drawing.selection import SelectedImage
from pipeline.errors import InputError
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import decode_packed_masks
from pipeline.parser import make_parser
from pipeline.records import RejectedImage
from pipeline.report import content
from pipeline.report.content import redraw_report, write_report
from pipeline.report.page import LABEL_BY_HAND, LIST_REJECTS
from pipeline.vocabulary import LANDMARK_SOURCES, NO_FACE, REJECT_REASONS
from regions.attributes import AttributeTable, parse_table
from regions.landmarks import FloatArray, five_points
from regions.masks import unpack_masks
from tests.faces import face
from tests.synthetic import HEIGHT, SMALL_TABLE, WIDTH, Shards, annotated, jpeg_file, rejected, write_output

HOSTILE = '"><script>alert(1)</script>&.jpg'
REASONS = tuple(REJECT_REASONS)


class Tags(HTMLParser):
    """Collects tags and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def close(self) -> None:
        super().close()
        assert not self._open


def page_of(folder: Path, shards: Shards, **options: Any) -> str:
    settings, dataset = write_output(folder, shards, **options)
    write_report(settings.output, dataset)
    return Path(settings.output, "report.html").read_text(encoding="utf-8")


def tags_of(page: str) -> list[tuple[str, dict[str, str]]]:
    parser = Tags()
    parser.feed(page)
    parser.close()
    return parser.found


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.partition("<body>")[2])).split())


def images_of(page: str) -> list[Image.Image]:
    prefix = "data:image/jpeg;base64,"
    sources = [attributes["src"] for tag, attributes in tags_of(page) if tag == "img"]
    assert all(source.startswith(prefix) for source in sources)
    images: list[Image.Image] = [Image.open(io.BytesIO(base64.b64decode(source[len(prefix) :]))) for source in sources]
    for image in images:
        image.load()
    return images


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the report of 9 samples and of a reject for each reason."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "images").mkdir()
    for name in ("no_face.jpg", "unlabelled.jpg"):
        (folder / "images" / name).write_bytes(jpeg_file())
    (folder / "unsafe_id.jpg").write_bytes(jpeg_file())
    rejects = [
        rejected(image_id=f"{'../' * (reason == 'unsafe_id')}{reason}.jpg", reason=reason, detail=f"why {reason}")
        for reason in REASONS
    ]
    shards: Shards = {
        "train-000000": [*(annotated(image_id=f"t{i}.jpg", labels=(0, i < 2, 1)) for i in range(6)), *rejects],
        "val-000000": [annotated(image_id=HOSTILE, landmark_source="five_points")],
        "test-000000": [
            annotated(image_id=f"e{i}.jpg", landmark_source="hinted_box", labels=(0, 0, 1)) for i in range(2)
        ],
    }
    return page_of(folder, shards, skipped=7)


def test_counts_add_up(page: str) -> None:
    text = text_of(page)
    assert f"{9 + len(REASONS)} images in = 9 written + {len(REASONS)} rejected" in text
    assert f"{100 * 9 / (9 + len(REASONS)):.2f}"[:4] in text
    assert f"train 1 6 {len(REASONS)}" in text
    assert "val 1 1 0 100%" in text
    assert "7 label rows without an image left out" in text


def test_every_source_is_explained_and_weak_ones_are_marked(page: str) -> None:
    text = text_of(page)
    for meaning in LANDMARK_SOURCES.values():
        assert meaning in text
    assert "five points weak 1" in text
    assert text.count("weak") == 2


def test_every_reason_is_explained_with_id_and_detail(page: str) -> None:
    text = text_of(page)
    for reason in REASONS:
        assert REJECT_REASONS[reason] in text
        assert f"{reason}.jpg" in text
        assert (f"why {reason}" in text) == (reason != "missing")


def test_images_decode_and_are_of_the_right_images(page: str) -> None:
    sizes = [image.size for image in images_of(page)]
    assert sizes.count((356, 436)) == 9
    assert sizes.count((144, 180)) == 2
    assert len(sizes) == 11
    names = [attributes["alt"] for tag, attributes in tags_of(page) if tag == "img"]
    assert {"no_face.jpg", "unlabelled.jpg", HOSTILE} < set(names)


def test_hostile_image_id_is_only_text(page: str) -> None:
    assert "<script" not in page
    assert HOSTILE in text_of(page)
    assert {tag for tag, _ in tags_of(page)} <= {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section"),
        *("h1", "h2", "h3", "p", "div", "span", "b", "i", "em", "small", "a", "img", "figure", "figcaption"),
        *("table", "thead", "tbody", "tr", "th", "td", "ul", "li", "pre", "code"),
    }


def test_nothing_is_loaded(page: str) -> None:
    for _, attributes in tags_of(page):
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page


def test_links_lead_somewhere(page: str) -> None:
    tags = tags_of(page)
    ids = {attributes["id"] for _, attributes in tags if "id" in attributes}
    assert {attributes["href"][1:] for tag, attributes in tags if tag == "a"} <= ids


def test_mask_areas_are_measured(page: str) -> None:
    text = text_of(page)
    assert "Measured on 9 samples out of 9" in text
    bald, nose, young = (re.search(rf"{name} ([\d.]+)% ([\d.]+)%", text) for name in ("Bald", "Big Nose", "Young"))
    assert bald and nose and young
    assert (bald[1], nose[1], young[1]) == ("11.1", "22.2", "100.0")
    sample = annotated(labels=(1, 1, 1))
    areas = unpack_masks(decode_packed_masks(sample.png), 3).mean(axis=(1, 2))
    assert [bald[2], nose[2], young[2]] == [f"{100 * area:.1f}" for area in areas]
    assert "empty" not in text.partition("Mask area")[2]


def test_masks_out_of_the_image_are_counted(tmp_path: Path) -> None:
    outside = annotated(points=face(y=-60), labels=(1, 1, 1))
    assert "Bald 1 empty 100.0% 0.0%" in text_of(page_of(tmp_path, {"train-000000": [outside]}))


def test_attributes_and_further_regions(tmp_path: Path) -> None:
    table = parse_table(
        SMALL_TABLE.replace('"nose"]', '"nose", "beard"]') + "\n[regions]\nbeard = [3, 8, 13]\n", "t.toml"
    )
    text = text_of(page_of(tmp_path, {"train-000000": [annotated(table=table)]}, table=table))
    assert "Bald top of head Big Nose nose beard Young all ten" in text


def test_many_rejects_are_bounded_spread_over_reasons_and_can_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards: dict[str, list[RejectedImage]] = {
        f"train-{shard:06d}": [
            *(rejected(image_id=f"gone_{shard}_{i}.jpg", reason="missing") for i in range(30)),
            *(rejected(image_id=f"empty_{shard}_{i}.jpg", reason="empty") for i in range(100)),
        ]
        for shard in range(2)
    }
    shards["train-000001"].append(rejected(image_id="rare.jpg", reason="too_large", detail="huge"))
    text = text_of(page_of(tmp_path, shards))
    assert len(re.findall(r"empty_\d_\d+\.jpg", text)) == content.MAX_REJECTS - 1
    assert len(re.findall(r"gone_\d_\d+\.jpg", text)) == content.MAX_MISSING
    assert "rare.jpg huge" in text
    assert f"{261 - 60 - 20} more rejects are in the manifest" in text
    assert "None: every image was rejected" in text
    monkeypatch.chdir(tmp_path / "out")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(LIST_REJECTS, {})  # noqa: S102
    assert len(printed.getvalue().splitlines()) == 261


def test_run_without_rejects(tmp_path: Path) -> None:
    text = text_of(page_of(tmp_path, {"train-000000": [annotated()]}))
    assert "None: every image was written" in text
    assert "left out" not in text


def test_thumbnails_never_leave_the_image_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpeg_file())
    shards: Shards = {"train-000000": [annotated(), rejected(image_id="../secret.jpg", reason="unsafe_id")]}
    assert len(images_of(page_of(tmp_path, shards))) == 1


def test_rejects_whose_image_is_gone_are_still_listed(tmp_path: Path) -> None:
    shards: Shards = {"train-000000": [annotated(), rejected(image_id="gone.jpg"), rejected(image_id="here.jpg")]}
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "here.jpg").write_bytes(jpeg_file())
    page = page_of(tmp_path, shards)
    assert len(images_of(page)) == 2
    assert "image not available gone.jpg" in text_of(page)


def test_an_error_of_an_object_store_only_leaves_a_thumbnail_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class StoreError(Exception):
        """An object store's own error, which is no OSError."""

    real = storage.read_bytes

    def read_bytes(path: str) -> bytes:
        if path.startswith("gs://"):
            raise StoreError("503 Slow Down")
        return real(path)

    monkeypatch.setattr(storage, "read_bytes", read_bytes)
    selected = SelectedImage("train-000000", "a.jpg", "a", NO_FACE, "", 0, 0)
    drawn = content._drawn_reject("gs://bucket/images", selected)
    assert (drawn.image_id, drawn.jpeg) == ("a.jpg", None)


def test_the_report_is_the_same_each_time(tmp_path: Path) -> None:
    shards: Shards = {"train-000000": [annotated(), rejected()]}
    assert page_of(tmp_path, shards) == page_of(tmp_path, shards)


def shifted(percents: float) -> FloatArray:
    """Return five points that lie by so many percents of the eye distance beside those of `face()`."""
    return five_points(face()) + (0.6 * percents, 0)


ERRORS = [*np.arange(0.5, 20), 29.5]
"""In %: mean 10.9, median 10.5, 95th percentile 19.5."""


@pytest.fixture(scope="module")
def agreement_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the report of 21 samples with errors that are known, 2 weak ones and one without five points."""
    samples = [
        annotated(image_id=f"{error}.jpg", landmark_source="hinted_box" if error < 11 else "given", five=shifted(error))
        for error in ERRORS
    ]
    weak = [annotated(image_id=f"weak{i}.jpg", landmark_source="five_points", five=shifted(40)) for i in range(2)]
    shards: Shards = {
        "train-000000": [*samples[::2], annotated(image_id="none.jpg"), *weak],
        "val-000000": [annotated(image_id="none2.jpg"), rejected(five=shifted(50), guess=face())],
        "test-000000": [rejected(image_id="c.jpg"), *samples[1::2]],
    }
    return page_of(tmp_path_factory.mktemp("agreement"), shards)


def section_of(page: str, name: str) -> str:
    return page.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def test_errors_against_the_five_points_are_those_of_all_samples_but_weak_ones(agreement_page: str) -> None:
    text = text_of(f"<body>{section_of(agreement_page, 'agreement')}")
    assert "21 samples 10.9% mean 10.5% median 19.5% 95th percentile 29.5% largest" in text
    assert "five points for 23 of 25 samples" in text
    assert "The 2 samples of the weak source “five points” are in the table only" in text
    assert "10.9% landmark error (NME against the five points)" in text_of(agreement_page)


def test_errors_are_listed_by_source(agreement_page: str) -> None:
    text = text_of(f"<body>{section_of(agreement_page, 'agreement')}")
    assert "given 10 16.9% 25.0% 29.5% hinted box 11 5.5% 10.0% 10.5% five points (weak) 2 40.0% 40.0% 40.0%" in text


def test_histogram_counts_each_percent(agreement_page: str) -> None:
    bars = [attributes["title"] for _, attributes in tags_of(agreement_page) if "title" in attributes]
    assert bars == [
        f"{low} to {low + 1}%: {int(low < 20 or low == 29)} sample{'s' * (20 <= low < 29)}" for low in range(30)
    ]


def test_last_bar_of_the_histogram_holds_all_larger_errors(tmp_path: Path) -> None:
    samples = [
        annotated(image_id=f"{i}.jpg", landmark_source="given", five=shifted(error))
        for i, error in enumerate((31, 250, 2.5))
    ]
    bars = re.findall(r'title="([^"]*)"><i style="height:([^"]*)"', page_of(tmp_path, {"train-000000": samples}))
    assert (bars[2], bars[30]) == (("2 to 3%: 1 sample", "50.00%"), ("30% and more: 2 samples", "100.00%"))
    assert len(bars) == 31


def test_worst_images_are_shown_in_order(agreement_page: str) -> None:
    figures = re.findall(r"<b>([^<]*)</b><span>([^<]*)</span></figcaption>", section_of(agreement_page, "agreement"))
    worst = sorted(ERRORS, reverse=True)[:12]
    landmark_sources = ["hinted box" if error < 11 else "given" for error in worst]
    assert figures == [
        (f"{error}.jpg", f"{landmark_source}, {error:.1f}%")
        for error, landmark_source in zip(worst, landmark_sources, strict=True)
    ]


def test_five_points_are_marked_where_they_are(agreement_page: str) -> None:
    (worst, *_) = images_of(section_of(agreement_page, "agreement"))
    result = annotated()
    x0, y0, x1, y1 = result.crop
    columns, rows = np.floor((shifted(29.5) - (x0, y0)) * (356 / (x1 - x0), 436 / (y1 - y0))).astype(int).T
    assert np.abs(np.asarray(worst)[rows, columns].astype(int) - overlays.POINT_COLOR).max() < 60


def test_run_without_five_points_has_no_agreement(page: str) -> None:
    assert 'id="agreement"' not in page and "#agreement" not in page
    assert "NME against" not in text_of(page)


def test_run_of_weak_sources_alone_has_no_overall_error(tmp_path: Path) -> None:
    page = page_of(tmp_path, {"train-000000": [annotated(landmark_source="five_points", five=shifted(3))]})
    text = text_of(f"<body>{section_of(page, 'agreement')}")
    assert "five points (weak) 1 3.0% 3.0% 3.0%" in text
    assert "median" not in text and "Largest" not in text
    assert "NME against" not in text_of(page)


def test_hostile_ids_are_only_text_among_the_worst(tmp_path: Path) -> None:
    shards: Shards = {
        "train-000000": [annotated(image_id=HOSTILE, five=shifted(3)), rejected(image_id=HOSTILE, guess=face())]
    }
    page = page_of(tmp_path, shards)
    assert "<script" not in page
    assert HOSTILE in text_of(f"<body>{section_of(page, 'agreement')}")
    tags_of(page)


@pytest.mark.parametrize(("height", "width", "scale"), [(HEIGHT, WIDTH, 0.36), (120, 100, 1.0)])
def test_guesses_are_drawn_where_they_are_on_the_thumbnail(
    tmp_path: Path, height: int, width: int, scale: float
) -> None:
    (tmp_path / "images").mkdir()
    for name in ("plain.jpg", "guess.jpg"):
        (tmp_path / "images" / name).write_bytes(jpeg_file(height=height, width=width))
    guess = face(x=0.6 * width, y=0.3 * height, eye_distance=0.35 * width)
    rejects = [rejected(image_id="plain.jpg"), rejected(image_id="guess.jpg", reason="wrong_face", guess=guess)]
    plain, drawn = (np.asarray(image).astype(int) for image in images_of(page_of(tmp_path, {"train-000000": rejects})))
    assert drawn.shape == (round(height * scale), round(width * scale), 3)
    rows, columns = (np.indices(drawn.shape[:2]) + 0.5)[:, (np.abs(drawn - plain).max(axis=2) > 60)]
    distances = np.hypot(columns - scale * guess[:, :1], rows - scale * guess[:, 1:])
    assert distances.min(axis=0).max() < 3
    assert distances.min(axis=1).max() < 2.5
    assert distances.min(axis=1).mean() < 0.6


def test_dots_are_explained_only_where_there_are_some(tmp_path: Path) -> None:
    for folder, guess in (("a", None), ("b", face())):
        (tmp_path / folder / "images").mkdir(parents=True)
        (tmp_path / folder / "images" / "b.jpg").write_bytes(jpeg_file())
        text = text_of(page_of(tmp_path / folder, {"train-000000": [rejected(guess=guess)]}))
        assert ("Dots on an image are a guess" in text) == (guess is not None)


def test_rejects_without_a_face_can_be_annotated_by_hand(page: str, tmp_path: Path) -> None:
    assert "2 images without a usable face can be recovered" in text_of(page)
    for line in LABEL_BY_HAND.splitlines():
        assert line in text_of(page)
        assert make_parser().parse_args(line.split()[1:]).command == "handlabel"
    others = {"train-000000": [rejected(reason=reason) for reason in REASONS if "face" not in reason]}
    assert "handlabel" not in page_of(tmp_path, others)


def bridge_table() -> AttributeTable:
    outline = "[[27, {28 = 0.5, 39 = 0.5}, {30 = 2, 29 = -1.0}, {28 = 0.5, 42 = 0.5}]]"
    return parse_table(f"{SMALL_TABLE}\n[regions]\nbridge = {outline}\n", "t.toml")


def test_a_redrawn_report_has_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "b.jpg").write_bytes(jpeg_file())
    shards: Shards = {
        "train-000000": [annotated(table=bridge_table(), five=shifted(3)), rejected(guess=face())],
        "val-000000": [annotated(image_id="ä.jpg", table=bridge_table(), landmark_source="tiles")],
    }
    page = page_of(tmp_path, shards, table=bridge_table(), skipped=2)
    report = tmp_path / "out" / "report.html"
    first = report.read_bytes()
    assert len(images_of(page)) == 4
    report.unlink()
    assert redraw_report(str(tmp_path / "out")) == str(report)
    assert report.read_bytes() == first


def test_a_redrawn_report_needs_no_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "b.jpg").write_bytes(jpeg_file())
    page_of(tmp_path, {"train-000000": [annotated(), rejected()]})
    (tmp_path / "images" / "b.jpg").unlink()
    page = Path(redraw_report(str(tmp_path / "out"))).read_text()
    assert len(images_of(page)) == 1
    assert "no face 1 of 1 b.jpg" in text_of(page)


def test_an_unfinished_run_has_no_report_to_redraw(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        redraw_report(str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"no dataset\.json, expected the folder of a finished run"):
        redraw_report(str(tmp_path))
    assert not (tmp_path / "report.html").exists()


def without_manifest(output: Path) -> None:
    Path(RunFolder(str(output)).manifest("train-000000")).unlink()


def damaged_manifest(output: Path) -> None:
    Path(RunFolder(str(output)).manifest("train-000000")).write_bytes(b"PAR1" * 100)


def damaged_shard(output: Path) -> None:
    Path(RunFolder(str(output)).shard("train-000000")).write_bytes(b"x" * 2000)


def damaged_crop(output: Path) -> None:
    shard = Path(RunFolder(str(output)).shard("train-000000"))
    shard.write_bytes(shard.read_bytes().replace(b"\xff\xd8\xff", b"\x00\xd8\xff"))


def damaged_masks(output: Path) -> None:
    shard = Path(RunFolder(str(output)).shard("train-000000"))
    shard.write_bytes(shard.read_bytes().replace(b"\x89PNG", b"\x00PNG"))


def renamed_member(output: Path) -> None:
    shard = Path(RunFolder(str(output)).shard("train-000000"))
    shard.write_bytes(shard.read_bytes().replace(b'"labels"', b'"babels"'))


@pytest.mark.parametrize(
    "damage", [without_manifest, damaged_manifest, damaged_shard, damaged_crop, damaged_masks, renamed_member]
)
def test_damage_is_reported_in_one_line_and_the_former_report_stays(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    page = page_of(tmp_path, {"train-000000": [annotated(five=shifted(3)), rejected()]})
    damage(tmp_path / "out")
    with pytest.raises(InputError, match=r"out: damaged: .+ \(see attparse verify for details\)$") as caught:
        redraw_report(str(tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "out" / "report.html").read_text() == page


def rewrite_labels(shard: Path, labels: dict[str, dict[str, int | None]]) -> None:
    """Replace the labels of samples, by key, in a tar file."""
    with tarfile.open(shard) as tar:
        members = [(info.name, file.read()) for info in tar if (file := tar.extractfile(info)) is not None]
    with tarfile.open(shard, "w") as tar:
        for name, content in members:
            key, _, ending = name.partition(".")
            if ending == "json" and key in labels:
                member = json.dumps(json.loads(content) | {"labels": labels[key]}).encode()
            else:
                member = content
            info = tarfile.TarInfo(name)
            info.size = len(member)
            tar.addfile(info, io.BytesIO(member))


def test_unknown_labels_count_neither_for_nor_against_an_attribute(tmp_path: Path) -> None:
    samples = [annotated(image_id="a.jpg", labels=(1, 1, 0)), annotated(image_id="b.jpg", labels=(1, 0, 0))]
    settings, dataset = write_output(tmp_path, {"train-000000": samples})
    rewrite_labels(
        Path(RunFolder(settings.output).shard("train-000000")),
        {"a": {"Bald": 1, "Big_Nose": 1, "Young": None}, "b": {"Bald": 0, "Big_Nose": None, "Young": None}},
    )
    write_report(settings.output, dataset)
    text = text_of((tmp_path / "out" / "report.html").read_text())
    assert "Measured on 2 samples out of 2. Unknown labels are ignored." in text
    shares = [re.findall(rf"{name} (\S+) ", text)[0] for name in ("Bald", "Big Nose", "Young")]
    assert shares == ["50.0%", "100.0%", "–"]  # noqa: RUF001


def test_the_source_data_set_is_shown_as_the_user_names_it(tmp_path: Path) -> None:
    settings, dataset = write_output(tmp_path, {"train-000000": [annotated()]})
    assert "source name" not in text_of(Path(redraw_report(settings.output)).read_text())
    source = SourceDataset(name="Faces <2>", url="javascript:alert(1)", license="CC BY 4.0")
    write_report(settings.output, msgspec.structs.replace(dataset, source=source))
    page = (tmp_path / "out" / "report.html").read_text()
    text = text_of(f"<body>{section_of(page, 'versions')}")
    assert "source name Faces <2> source url javascript:alert(1) source license CC BY 4.0 images" in text
    assert "javascript:" not in {str(attributes.get("href"))[:11] for _, attributes in tags_of(page)}
