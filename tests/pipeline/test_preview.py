from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import shapely
from PIL import Image, ImageFont

from pipeline.cli import main
from pipeline.drawing import contact_sheet, overlays, selection
from pipeline.drawing.preview import write_preview
from pipeline.errors import InputError
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.samples import StoredSample, decode_packed_masks, describe_sample, read_samples
from pipeline.records import WrittenSample
from regions.attributes import parse_table
from regions.crop import IMAGE_HEIGHT, IMAGE_WIDTH
from regions.masks import unpack_masks
from regions.outlines import REGION_NAMES
from tests.faces import ODD_FACES, face
from tests.synthetic import HEIGHT, SMALL_TABLE, WIDTH, Shards, annotated, rejected, small_table, write_output

FACE_WITH_FURTHER = SMALL_TABLE + "\n[regions]\ncheek_line = [2, 3, 31]\n"


def sample_of(result: WrittenSample) -> StoredSample:
    return StoredSample(
        result.row.key,
        result.jpeg,
        result.png,
        describe_sample(result, "train", list(small_table().attributes)),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")
    shards: Shards = {
        f"train-{number:06d}": [
            *(annotated(image_id=f"{number}_{i}.jpg", labels=(i == 2, 0, 1)) for i in range(3)),
            rejected(image_id=f"{number}_none.jpg"),
        ]
        for number in range(3)
    }
    settings, _ = write_output(folder, shards)
    return settings.output


def sheet(output: str, path: Path, count: int, attribute: str | None = None) -> npt.NDArray[np.uint8]:
    write_preview(output, str(path), count, attribute)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.slow
def test_sheet_grows_with_count_and_shows_at_most_all(run: str, tmp_path: Path) -> None:
    sizes = [sheet(run, tmp_path / "F.png", count).size for count in (1, 2, 4, 9)]
    assert sizes == sorted(set(sizes))
    assert sheet(run, tmp_path / "F.png", 240).size == sizes[-1]


def test_sheet_is_the_same_each_time(run: str, tmp_path: Path) -> None:
    for name in ("a.png", "b.PNG"):
        write_preview(run, str(tmp_path / name), 4)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.PNG").read_bytes()


def test_every_region_has_its_color_in_the_legend(run: str, tmp_path: Path) -> None:
    colors = {tuple(color) for color in sheet(run, tmp_path / "F.png", 2)[-120:].reshape(-1, 3).tolist()}
    assert set(overlays.REGION_COLORS.values()) <= colors


def test_drawings_are_cut_off_as_the_masks_are(tmp_path: Path) -> None:
    result = annotated(points=face(x=5))
    settings, _ = write_output(tmp_path, {"train-000000": [result]})
    shown = sheet(settings.output, tmp_path / "F.png", 1)
    expected = overlays.draw_regions(sample_of(result), image_size=(HEIGHT, WIDTH))
    tiles = np.lib.stride_tricks.sliding_window_view(shown[:, contact_sheet.MARGIN :][:, :356], 436, axis=0)
    assert any((tile.transpose(2, 0, 1) == expected).all() for tile in tiles)


def test_one_region_can_be_drawn_alone(run: str, tmp_path: Path) -> None:
    write_preview(run, str(tmp_path / "F.png"), 24, region="nose")
    with Image.open(tmp_path / "F.png") as image:
        legend = {tuple(color) for color in np.asarray(image)[-120:].reshape(-1, 3).tolist()}
    assert {name for name, color in overlays.REGION_COLORS.items() if color in legend} == {"nose"}


def test_a_region_alone_is_drawn_as_among_the_others() -> None:
    sample = sample_of(annotated())
    nothing = overlays.draw_regions(sample, only="none of them").astype(int)
    drawn = {name: (overlays.draw_regions(sample, only=name) != nothing).any(axis=2) for name in REGION_NAMES}
    every = (overlays.draw_regions(sample) != nothing).any(axis=2)
    assert all(mask.any() for mask in drawn.values())
    assert (np.any(list(drawn.values()), axis=0) == every).mean() > 0.999


def test_a_further_region_of_weighted_landmarks_is_drawn(tmp_path: Path) -> None:
    outline = "[[27, {28 = 0.5, 39 = 0.5}, {30 = 2, 29 = -1.0}, {28 = 0.5, 42 = 0.5}]]"
    table = parse_table(f"{SMALL_TABLE}\n[regions]\nbridge = {outline}\n", "t.toml")
    result = annotated(table=table)
    settings, _ = write_output(tmp_path, {"train-000000": [result]}, table=table)
    write_preview(settings.output, str(tmp_path / "F.png"), 24, region="bridge")
    with Image.open(tmp_path / "F.png") as image:
        shown = np.asarray(image)[:, contact_sheet.MARGIN :][:, : 2 * IMAGE_WIDTH]
    expected = overlays.draw_regions(sample_of(result), table.further_regions, only="bridge")
    assert (expected != overlays.draw_regions(sample_of(result), only="none of them")).any()
    tiles = np.lib.stride_tricks.sliding_window_view(shown, 2 * IMAGE_HEIGHT, axis=0)
    assert any((tile.transpose(2, 0, 1) == expected).all() for tile in tiles)


def test_long_notes_are_wrapped_and_push_the_next_row_down() -> None:
    pixels = np.zeros((100, 178, 3), dtype=np.uint8)
    short, long = (
        contact_sheet.Tile(pixels, "a", "chin"),
        contact_sheet.Tile(pixels, "a", "chin, cheeks, above mouth, below chin"),
    )
    plain, grown = (contact_sheet.contact_sheet(tiles, "t", {}) for tiles in ([short] * 4, [long] + [short] * 3))
    lines = len(contact_sheet._wrap(long.note, ImageFont.load_default(contact_sheet.TEXT_SIZE), 178))
    assert lines > 1
    assert grown.height - plain.height == (lines - 1) * contact_sheet.LINE


def test_region_and_attribute_exclude_each_other(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["preview", run, f"--output={tmp_path / 'F.png'}", "--region=nose", "--attribute=Big_Nose"])
    assert stopped.value.code == 2
    assert "--attribute: not allowed with argument --region" in capsys.readouterr().err


def test_an_unknown_region_is_reported(run: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^unknown region 'noes' \(did you mean 'nose'"):
        write_preview(run, str(tmp_path / "F.png"), 4, region="noes")


def test_attribute_shows_only_samples_that_have_it(run: str, tmp_path: Path) -> None:
    one_in_three, all_have_it = (sheet(run, tmp_path / "F.png", 9, name).size for name in ("Bald", "Young"))
    assert one_in_three == sheet(run, tmp_path / "F.png", 3, "Young").size < all_have_it


@pytest.mark.parametrize(
    ("name", "count", "attribute", "message"),
    [
        ("F.jpg", 4, None, r"F\.jpg: expected .* \.png"),
        ("F.png", 0, None, "0 samples, expected 1 to"),
        ("F.png", 4, "big nose", "unknown attribute 'big nose' .*'Big_Nose'"),
        ("F.png", 4, "Zebra", "expected one of Bald, Big_Nose, Young"),
        ("F.png", 4, "Big_Nose", "no sample has the attribute 'Big_Nose'"),
        ("absent/F.png", 4, None, r"absent/F\.png: cannot write"),
    ],
)
def test_bad_arguments_are_reported_in_one_line(
    run: str, tmp_path: Path, name: str, count: int, attribute: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        write_preview(run, str(tmp_path / name), count, attribute)
    assert "\n" not in str(caught.value)


def test_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        write_preview(str(tmp_path / "absent"), "F.png", 4)
    with pytest.raises(InputError, match=r"no dataset\.json"):
        write_preview(str(tmp_path), "F.png", 4)
    dataset = tmp_path / "dataset.json"
    for content, message in (
        ("{", "not valid JSON"),
        ("[]", "format_version is None"),
        ('{"format_version": 99}', "99"),
    ):
        dataset.write_text(content)
        with pytest.raises(InputError, match=message):
            write_preview(str(tmp_path), "F.png", 4)


def test_run_without_samples(tmp_path: Path) -> None:
    settings, _ = write_output(tmp_path, {"train-000000": [rejected()]})
    with pytest.raises(InputError, match="no samples, only 1 rejected image"):
        write_preview(settings.output, str(tmp_path / "F.png"), 4)


def test_damaged_shard_is_reported(tmp_path: Path) -> None:
    settings, _ = write_output(tmp_path, {"train-000000": [annotated()]})
    Path(RunFolder(settings.output).shard("train-000000")).write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match="damaged"):
        write_preview(settings.output, str(tmp_path / "F.png"), 4)


def test_region_colors_are_clearly_distinct() -> None:
    assert tuple(overlays.REGION_COLORS) == REGION_NAMES
    colors = np.array([list(overlays.REGION_COLORS.values())], dtype=np.float32) / 255
    lab = cv2.cvtColor(colors, cv2.COLOR_RGB2LAB)[0]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)) > 30


def test_further_regions_get_further_colors() -> None:
    names = [*REGION_NAMES, "beard", "forehead", "scar"]
    colors = overlays.region_colors(names)
    assert list(colors) == names
    assert len(set(colors.values())) == len(names)


def test_regions_are_drawn_where_the_landmarks_are() -> None:
    sample = sample_of(annotated())
    plain, drawn = overlays.enlarged_crop(sample).astype(int), overlays.draw_regions(sample).astype(int)
    assert drawn.shape == (2 * IMAGE_HEIGHT, 2 * IMAGE_WIDTH, 3)
    x0, y0, x1, y1 = sample.description.crop
    scale = 2 * np.array([IMAGE_WIDTH, IMAGE_HEIGHT]) / (x1 - x0, y1 - y0)
    columns, rows = np.floor((np.array(sample.description.landmarks) - (x0, y0)) * scale).astype(int).T
    assert (drawn[rows, columns] > 215).all()
    beside_the_bridge = 0.6 * face()[29] + 0.4 * face()[31]
    column, row = np.floor((beside_the_bridge - (x0, y0)) * scale).astype(int)
    nose = np.array(overlays.REGION_COLORS["nose"])
    expected = plain[row, column] * (1 - overlays.FILL) + nose * overlays.FILL
    assert np.abs(drawn[row, column] - expected).max() <= 1
    assert (drawn[:20, :20] == plain[:20, :20]).all()


def test_regions_are_cut_off_at_the_edge_of_the_image() -> None:
    sample = sample_of(annotated(points=face(x=5)))
    x0, _, x1, _ = sample.description.crop
    outside = slice(0, round(-x0 * 2 * IMAGE_WIDTH / (x1 - x0)) - 12)
    plain = overlays.enlarged_crop(sample)
    whole, clipped = (overlays.draw_regions(sample, image_size=size) for size in (None, (HEIGHT, WIDTH)))
    teal = np.array(overlays.REGION_COLORS["top_of_head"])
    assert (whole[:, outside] == teal).all(axis=2).any()
    assert not (clipped[:, outside] == teal).all(axis=2).any()
    assert (plain != clipped).any()


def test_holes_and_several_parts_are_drawn() -> None:
    canvas = np.zeros((100, 100, 3), dtype=np.uint8)
    ring = shapely.box(10, 10, 50, 50) - shapely.box(25, 25, 35, 35)
    overlays._draw_polygon(canvas, shapely.union(ring, shapely.box(60, 60, 90, 90)), (200, 100, 0))
    filled = [round(value * overlays.FILL) for value in (200, 100, 0)]
    assert canvas[17, 17].tolist() == canvas[75, 75].tolist() == filled
    assert canvas[30, 30].tolist() == canvas[55, 55].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ODD_FACES)
def test_odd_faces_can_be_drawn(name: str) -> None:
    table = parse_table(FACE_WITH_FURTHER, "t.toml")
    sample = sample_of(dataclasses.replace(annotated(), landmarks=ODD_FACES[name]))
    assert overlays.draw_regions(sample, table.further_regions, (HEIGHT, WIDTH)).shape == (436, 356, 3)


def test_dots_and_crosses_are_drawn_on_their_points() -> None:
    canvas = np.zeros((90, 160, 3), dtype=np.uint8)
    overlays.draw_dots(canvas, np.array([[30.5, 10.5], [31.5, 10.5], [np.nan, 5.0], [1e12, 5.0], [-1e12, 5.0]]))
    assert canvas[10, 30].tolist() == canvas[10, 31].tolist() == list(overlays.LANDMARK_COLOR)
    rows, columns = np.nonzero(canvas.any(axis=2))
    assert np.abs([rows.mean() + 0.5 - 10.5, columns.mean() + 0.5 - 31]).max() < 0.6
    assert max(np.ptp(rows), np.ptp(columns) - 1) < 2 * 2.3 + 2
    crossed = np.zeros((436, 356, 3), dtype=np.uint8)
    overlays.draw_crosses(crossed, np.array([[30.0, 40.0], [1e12, 0.0]]), (-10, -20, 168, 198))
    assert (crossed[120, 80] == overlays.POINT_COLOR).all()
    rows, columns = np.nonzero((crossed == overlays.POINT_COLOR).all(axis=2))
    assert np.abs([rows.mean() + 0.5 - 120, columns.mean() + 0.5 - 80]).max() < 0.3


def test_mask_is_drawn_pixel_by_pixel() -> None:
    sample = sample_of(annotated())
    mask = unpack_masks(decode_packed_masks(sample.png), 3)[2]
    drawn, plain = overlays.draw_mask(sample, 2).astype(int), overlays.enlarged_crop(sample)
    changed = (drawn != plain).any(axis=2)
    rows, columns = np.nonzero(cv2.erode(mask, np.ones((3, 3))))
    assert changed[((rows + 0.5) * 436 / 96).astype(int), ((columns + 0.5) * 356 / 76).astype(int)].all()
    assert 0.95 < changed.mean() / mask.mean() < 1.15
    assert (overlays.draw_mask(sample, 1) == plain).all()


def test_long_captions_are_shortened_in_the_middle() -> None:
    font = ImageFont.load_default(18)
    short = contact_sheet.shorten("some/very/long/folder/name/of/a/image_000123.jpg", font, 200)
    assert font.getlength(short) <= 200
    assert short.startswith("some/") and short.endswith("123.jpg")
    assert contact_sheet.shorten("a.jpg", font, 200) == "a.jpg"


def test_selected_images_are_spread_and_only_as_much_is_read_as_needed(run: str) -> None:
    shards = [f"train-{number:06d}" for number in range(3)]
    selected = selection.select_images(run, shards, {"written": 4, "rejected": 9}, selection.by_column("status"))
    assert [image.shard[-1] for image in selected["written"]] == ["0", "0", "1", "2"]
    assert [image.image_id for image in selected["rejected"]] == [f"{number}_none.jpg" for number in range(3)]
    read = [(image.key, sample.key) for image, sample in selection.read_selected(run, selected["written"])]
    assert read == [(image.key, image.key) for image in selected["written"]]
    assert len(list(selection.first_samples(run, shards, 6))) == 6
    assert len(list(read_samples(RunFolder(run).shard(shards[0])))) == 3


def test_a_rare_group_is_found_wherever_it_is(tmp_path: Path) -> None:
    shards = {f"train-{number:06d}": [annotated(image_id=f"{number}.jpg")] for number in range(7)}
    shards["train-000006"].append(annotated(image_id="rare.jpg", landmark_source="five_points"))
    settings, dataset = write_output(tmp_path, shards)
    found = selection.select_images(
        settings.output,
        list(shards),
        selection.split_quota(3, dataset.landmark_sources),
        selection.by_column("landmark_source"),
    )
    assert [image.image_id for image in found["five_points"]] == ["rare.jpg"]
    assert len(found["whole_image"]) == 2


@pytest.mark.parametrize(("name", "text"), [("a\nb.jpg", "a\\nb.jpg"), ("\x1b[31m.jpg", "\\x1b[31m.jpg")], ids=ascii)
def test_a_caption_is_one_line_of_text(name: str, text: str) -> None:
    pixels = np.zeros((218, 178, 3), np.uint8)
    drawn, expected = (
        np.asarray(contact_sheet.contact_sheet([contact_sheet.Tile(pixels, caption, "a")], "title", {}))
        for caption in (name, text)
    )
    np.testing.assert_array_equal(drawn, expected)
