"""The words of the formats are those of docs/glossary.md."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.vocabulary import LANDMARK_SOURCES, REJECT_REASONS, STATUSES

GLOSSARY = (Path(__file__).resolve().parent.parent / "docs" / "glossary.md").read_text(encoding="utf-8")
FORBIDDEN = re.compile(r"rung|ladder|picture|crown|neck|turned")
BY_THE_USER = {"attributes", "versions"}
"""Members whose own members are names of attributes and libraries."""


def words_of(section: str) -> set[str]:
    """Return the words that a section defines or names."""
    text = GLOSSARY.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return set(re.findall(r"`(\w+)`", text))


def defined_in(section: str) -> list[str]:
    """Return the words that a section's table defines, in its order."""
    text = GLOSSARY.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)


def member_names(value: Any) -> set[str]:
    """Return the names of all members of a JSON value, but for those that the user gives."""
    if isinstance(value, list):
        return set().union(*map(member_names, value))
    if not isinstance(value, Mapping):
        return set()
    inner = (member_names(member) for name, member in value.items() if name not in BY_THE_USER)
    return set(value).union(*inner)


def assert_allowed(words: Iterable[str]) -> None:
    assert not [word for word in words if FORBIDDEN.search(word)]


@pytest.mark.slow
def test_members_of_a_sample(finished_demo: Path) -> None:
    with tarfile.open(finished_demo / "shards" / "train-000000.tar") as tar:
        texts = [file.read() for member in tar if member.name.endswith(".json") and (file := tar.extractfile(member))]
    assert texts
    for text in texts:
        members = list(json.loads(text))
        assert members == defined_in("KEY.json")
        assert_allowed(members)


@pytest.mark.slow
def test_columns_of_the_manifest(finished_demo: Path) -> None:
    columns = pq.read_schema(finished_demo / "manifest" / "train-000000.parquet").names
    assert columns == defined_in("Manifest")
    assert_allowed(columns)


@pytest.mark.slow
def test_fields_of_dataset_json(finished_demo: Path) -> None:
    document = json.loads((finished_demo / "dataset.json").read_text(encoding="utf-8"))
    assert list(document) == defined_in("dataset.json")
    further = {"attributes", "landmark_sources", "rejects", "splits"}
    names = member_names({name: value for name, value in document.items() if name not in further})
    names |= set(document) | set().union(*map(set, document["splits"].values()))
    assert names <= words_of("dataset.json")
    assert_allowed(names | set(document["versions"]))
    assert set(document["landmark_sources"]) <= set(LANDMARK_SOURCES)
    assert set(document["rejects"]) <= set(REJECT_REASONS)


def test_landmark_sources() -> None:
    assert defined_in("Landmark sources") == list(LANDMARK_SOURCES)
    assert_allowed(LANDMARK_SOURCES)


def test_reject_reasons_and_statuses() -> None:
    assert defined_in("Reject reasons") == list(REJECT_REASONS)
    assert set(STATUSES) <= words_of("Manifest")
    assert_allowed([*REJECT_REASONS, *STATUSES])


def test_meanings_are_one_line() -> None:
    assert all(len(line) <= 100 for line in GLOSSARY.splitlines())
