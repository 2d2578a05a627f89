"""The documented way to read shards with Hugging Face's datasets, which returns the names of labels sorted."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from pipeline.release import dataset_card
from tests.training_data import ATTRIBUTES, masks_of, members_of

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "release.md").read_text(encoding="utf-8")
(OF_DOCS,) = [
    snippet for snippet in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "load_dataset" in snippet
]


def load_dataset(*_: object, **__: object) -> Iterator[dict[str, Any]]:
    """Yield samples as ``datasets.load_dataset`` does."""
    for index in range(8):
        members = members_of(index)
        description = json.loads(members["json"])
        labels = dict(sorted(description["labels"].items()))
        yield {"masks.png": Image.open(io.BytesIO(members["masks.png"])), "json": {**description, "labels": labels}}


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stand-ins for the libraries, in a folder with releases."""
    hub, croissant = ModuleType("datasets"), ModuleType("mlcroissant")
    hub.load_dataset = load_dataset  # type: ignore[attr-defined]
    croissant.Dataset = lambda **_: croissant  # type: ignore[attr-defined]
    croissant.records = lambda _: [{}]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", hub)
    monkeypatch.setitem(sys.modules, "mlcroissant", croissant)
    monkeypatch.chdir(tmp_path)
    for name in ("rel", "THIS_FOLDER"):
        Path(name).mkdir()
        Path(name, "release.json").write_text(json.dumps({"dataset": {"attributes": ATTRIBUTES}}))


@pytest.mark.usefixtures("datasets")
@pytest.mark.parametrize("snippet", [OF_DOCS, dataset_card.READ_WITH_DATASETS], ids=["docs", "card"])
def test_labels_and_masks_are_in_the_same_order(snippet: str) -> None:
    assert list(ATTRIBUTES) != sorted(ATTRIBUTES)
    every_sample = re.sub(r"(\n +)(labels = .*)", r"\1\2\1read.append((labels, masks))", snippet)
    names: dict[str, Any] = {"read": []}
    exec(every_sample, names)  # noqa: S102
    assert len(names["read"]) == 8
    for labels, masks in names["read"]:
        assert masks.shape == (3, 96, 76)
        assert [int(mask.any()) for mask in masks] == labels
        assert (masks == masks_of(labels)).all()


def test_the_card_of_a_release_with_masks_shows_how_to_read_them() -> None:
    assert dataset_card.READ_WITH_DATASETS in dataset_card._masks_paragraph("96x76", without_labels=False)
    assert "```" not in dataset_card._masks_paragraph("96x76", without_labels=True)


def test_the_readme_takes_labels_by_the_names_in_dataset_json() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "values[name] for name in attributes" in text
    assert "order of `labels` is not reliable" in text
