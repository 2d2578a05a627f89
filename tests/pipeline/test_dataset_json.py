"""dataset.json: what is written is read back, and every field that is missing or wrong is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from pipeline.cli import main
from pipeline.config import SourceDataset
from pipeline.errors import InputError
from pipeline.formats.dataset_json import DatasetFile, ShardEntry, SplitCounts, TableEntry, read_dataset_file
from tests.synthetic import annotated, rejected, write_output

FIELDS = DatasetFile.__struct_fields__
NESTED = [
    *((("shards", 1), name) for name in ShardEntry.__struct_fields__),
    *((("splits", "train"), name) for name in SplitCounts.__struct_fields__),
    *((("attribute_table",), name) for name in TableEntry.__struct_fields__),
]
SOURCE = [(("source",), name) for name in SourceDataset.__struct_fields__]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two shards."""
    write_output(
        tmp_path,
        {
            "train-000000": [annotated(image_id="a.jpg"), rejected(image_id="b.jpg")],
            "val-000000": [annotated(image_id="c.jpg")],
        },
    )
    return tmp_path / "out"


Document: TypeAlias = dict[str, Any]


@pytest.fixture
def document(run: Path) -> Document:
    read: Document = json.loads((run / "dataset.json").read_text())
    return read


def refusal(run: Path, content: object) -> str:
    """Return the message about a dataset.json, without the path that it starts with."""
    path = run / "dataset.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(InputError) as caught:
        read_dataset_file(str(run))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def changed(document: Document, place: Sequence[str | int], name: str, value: object) -> Document:
    """Return a copy with one field set, or without it where `value` is None."""
    result = copy.deepcopy(document)
    fields: Any = result
    for step in place:
        fields = fields[step]
    assert name in fields
    if value is None:
        del fields[name]
    else:
        fields[name] = value
    return result


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    _, written = write_output(tmp_path, {"train-000000": [annotated()]}, skipped=3)
    assert read_dataset_file(str(tmp_path / "out")) == written
    document = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert list(document) == list(FIELDS)
    assert document == json.loads(msgspec.json.encode(written))


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_named(run: Path, document: Document, name: str) -> None:
    message = refusal(run, changed(document, (), name, None))
    expected = "format_version is None, expected 2" if name == "format_version" else f"missing required field `{name}`"
    assert expected in message


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_of_another_type_is_named(run: Path, document: Document, name: str) -> None:
    message = refusal(run, changed(document, (), name, True))
    assert (
        "format_version is True, expected 2" if name == "format_version" else f"got `bool` - at `$.{name}`" in message
    )


@pytest.mark.parametrize(("place", "name"), NESTED)
def test_a_missing_nested_field_is_named(
    run: Path, document: Document, place: tuple[str | int, ...], name: str
) -> None:
    message = refusal(run, changed(document, place, name, None))
    assert f"missing required field `{name}` - at `$.{place[0]}" in message


@pytest.mark.parametrize(("place", "name"), [*NESTED, *SOURCE])
def test_a_nested_field_of_another_type_is_named(
    run: Path, document: Document, place: tuple[str | int, ...], name: str
) -> None:
    message = refusal(run, changed(document, place, name, True))
    assert "got `bool` - at" in message
    assert f"`$.{place[0]}" in message and f".{name}`" in message


def test_parts_of_the_source_that_are_not_named_are_none(run: Path, document: Document) -> None:
    (run / "dataset.json").write_text(json.dumps(document | {"source": {}}))
    assert read_dataset_file(str(run)).source == SourceDataset()


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ((), "samples", -1),
        ((), "rejected", -1),
        ((), "crop", "../x"),
        ((), "refine", "magic"),
        ((), "attributes", []),
        ((), "image_size", [218]),
        ((), "mask_size", [96, 0]),
        ((), "image_size", [178, 218]),
        ((), "mask_size", [96, 77]),
        ((), "attributes", ["Bald", "Young", "Big_Nose"]),
        ((), "attributes", ["Bald", "Big_Nose"]),
        ((), "regions", ["nose"]),
        ((), "images", "images\0"),
        (("attribute_table",), "attributes", {"Bald": ["noes"]}),
        (("attribute_table",), "further_regions", {"hat": [[0, 1]]}),
        (("attribute_table",), "further_regions", {"hat": [[0, 1, 2]]}),
        ((), "splits", {"dev": {"shards": 1, "samples": 1, "rejected": 0}}),
        ((), "landmark_sources", {"oracle": 1}),
        ((), "rejects", {"ugly": 1}),
        ((), "rejects", {"no_face": -1}),
        (("shards", 0), "bytes", -1),
        (("shards", 0), "split", "dev"),
        (("shards", 0), "sha256", "x" * 64),
    ],
)
def test_a_value_out_of_range_is_named(
    run: Path, document: Document, place: tuple[str | int, ...], name: str, value: object
) -> None:
    assert f"{(*place, name)[0]}" in refusal(run, changed(document, place, name, value))


HOSTILE_NAMES = [
    "../../x",
    "/etc/passwd",
    "train-000000/../../x",
    "../train-000000",
    "train-000000\n",
    "train-00000",
    "dev-000000",
    "gs://bucket/train-000000",
    "train-000000.tar",
    "",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_shard_name_that_is_not_split_and_number_is_refused(
    run: Path, document: Document, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "at `$.shards[0].name`" in refusal(run, changed(document, ("shards", 0), "name", name))
    assert main(["verify", str(run)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_shard_of_another_split_is_refused(run: Path, document: Document) -> None:
    message = refusal(run, changed(document, ("shards", 0), "split", "test"))
    assert message.startswith("name is 'train-000000', expected a shard of split 'test'")


@pytest.mark.parametrize(("field", "name"), [("attributes", "Bald"), ("shards", "train-000000")])
def test_a_repeated_name_is_refused(run: Path, document: Document, field: str, name: str) -> None:
    message = refusal(run, document | {field: [*document[field], document[field][0]]})
    assert message == f"{field} has {name!r} more than once, expected each name once"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON: "),
        (b"{", "not valid JSON: "),
        (b"\xff", "not valid JSON: "),
        (b'{"format_version": 2, "crop": "\xff"}', "not valid JSON: "),
        (b'{"format_version": 2, "\xff": 1}', "not valid JSON: "),
        (b'{"format_version": 2, "seed": ' + b"[" * 100_000, "not valid JSON: "),
        (b"[]", "format_version is None, expected 2"),
        (b'{"format_version": 1, "rungs": {}}', "format_version is 1, expected 2"),
        (b'{"format_version": "2"}', "format_version is '2', expected 2"),
    ],
)
def test_what_is_not_a_dataset_file_is_refused(run: Path, content: bytes, message: str) -> None:
    assert refusal(run, content).startswith(message)


def test_a_folder_without_a_dataset_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no dataset\.json, expected the folder of a finished run"):
        read_dataset_file(str(tmp_path))
    with pytest.raises(InputError, match="absent: no such folder"):
        read_dataset_file(str(tmp_path / "absent"))
