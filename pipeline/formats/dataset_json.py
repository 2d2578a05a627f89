"""dataset.json, the contract between a run and its readers: built, written and read here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec

from pipeline import storage
from pipeline.config import SourceDataset
from pipeline.errors import InputError
from pipeline.formats.json_files import decode_json, read_json_file
from pipeline.formats.run_folder import DATASET_FILE, RunFolder
from pipeline.records import ShardSummary
from pipeline.vocabulary import FORMAT_VERSION, SPLITS, LandmarkSource, RejectReason, Split
from regions.attributes import AttributeTable, parse_table_document
from regions.crop import IMAGE_HEIGHT, IMAGE_WIDTH
from regions.masks import MASK_HEIGHT, MASK_WIDTH

Word = TypeVar("Word", bound=str)

Count = Annotated[int, msgspec.Meta(ge=0)]
Version = Annotated[str, msgspec.Meta(pattern=r"^[ -~]*\Z", max_length=200)] | int
"""A version is printed in messages of one line."""
PathText = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*\Z")]
"""No path has a zero character: the operating system would refuse it with an error of its own."""
Size = Annotated[int, msgspec.Meta(ge=1)]
ShardName = Annotated[str, msgspec.Meta(pattern=rf"^({'|'.join(SPLITS)})-[0-9]{{6,}}\Z")]
"""A shard's name becomes a path, so nothing else is accepted."""
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class SplitCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one split.

    Attributes
    ----------
    shards, samples, rejected : int
    """

    shards: Count
    samples: Count
    rejected: Count


class ShardEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One shard.

    Attributes
    ----------
    name : str
        Split and number, such as ``train-000000``.
    split : Split
    samples, rejected : int
    bytes : int
        Size of the tar file.
    sha256 : str
        Of the tar file.
    """

    name: ShardName
    split: Split
    samples: Count
    rejected: Count
    bytes: Count
    sha256: Sha256

    def __post_init__(self) -> None:
        """Check that the name is one of the split."""
        if not self.name.startswith(f"{self.split}-"):
            raise ValueError(f"name is {self.name!r}, expected a shard of split {self.split!r}")


class HintEntry(msgspec.Struct, frozen=True, kw_only=True):
    """How the hints of a run, its face boxes and five points, agree with the faces that were detected.

    Attributes
    ----------
    files : tuple of str
        The files of the hints, as given to the run.
    agree : int
        Samples with a hint whose face was detected where the hint points.
    disagree : int
        Rejected images whose plausible faces all lie elsewhere.
    sampled_agree, sampled_disagree : int
        Those among them that were searched for faces without their hint.
    """

    files: tuple[PathText, ...] = ()
    agree: Count = 0
    disagree: Count = 0
    sampled_agree: Count = 0
    sampled_disagree: Count = 0


class TableEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The attribute table of a run.

    Attributes
    ----------
    name : str
    attributes : dict of str to list of str
        The regions of each attribute.
    further_regions : dict of str to list
        Outlines of vertices: landmark indices, or weights by landmark index.
    """

    name: str
    attributes: dict[str, list[str]]
    further_regions: dict[str, list[list[int | dict[str, float]]]]


class DatasetFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of dataset.json.

    Attributes
    ----------
    format_version : int
    attparse_version : str
        Version of the program that wrote the run.
    source : SourceDataset
    attributes : tuple of str
        In the order of labels and masks.
    regions : tuple of str
        In the order of the attribute table: the ten, then further ones.
    attribute_table : TableEntry
    image_size, mask_size : tuple of int
        Height and width in pixels.
    images : str
        The image folder, as given to the run.
    crop : str
        ``face`` or ``none``.
    refine : str or None
        ``segmentation`` where the background was cut out of the regions that reach into it.
    seed : int
    samples, rejected : int
        Together the images of the run.
    skipped_missing : int
        Label rows left out because their image is missing.
    splits : dict of str to SplitCounts
    landmark_sources : dict of str to int
        Samples by landmark source.
    rejects : dict of str to int
        Rejected images by reason.
    hints : HintEntry
    versions : dict of str to str or int
        All that decides the bytes of a shard besides the options: rules, detectors, libraries.
    shards : tuple of ShardEntry
    """

    format_version: int
    attparse_version: str
    source: SourceDataset
    attributes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    regions: tuple[str, ...]
    attribute_table: TableEntry
    image_size: tuple[Size, Size]
    mask_size: tuple[Size, Size]
    images: PathText
    crop: Annotated[str, msgspec.Meta(pattern=r"^(face|none)\Z")]
    refine: Annotated[str, msgspec.Meta(pattern=r"^segmentation\Z")] | None
    seed: int
    samples: Count
    rejected: Count
    skipped_missing: Count
    splits: dict[Split, SplitCounts]
    landmark_sources: dict[LandmarkSource, Count]
    rejects: dict[RejectReason, Count]
    hints: HintEntry
    versions: dict[str, Version]
    shards: tuple[ShardEntry, ...]

    def __post_init__(self) -> None:
        """Check that each name is there once, that the sizes are those of the format, and that the table agrees."""
        for field, names in (("attributes", self.attributes), ("shards", [shard.name for shard in self.shards])):
            repeated = [name for name, count in Counter(names).items() if count > 1]
            if repeated:
                raise ValueError(f"{field} has {repeated[0]!r} more than once, expected each name once")
        table = self.table()
        for field, found, expected in (
            ("image_size", self.image_size, (IMAGE_HEIGHT, IMAGE_WIDTH)),
            ("mask_size", self.mask_size, (MASK_HEIGHT, MASK_WIDTH)),
            ("attributes", self.attributes, tuple(table.attributes)),
            ("regions", self.regions, table.region_names),
        ):
            if found != expected:
                origin = "" if field.endswith("_size") else " as in attribute_table"
                raise ValueError(f"{field} is {list(found)}, expected {list(expected)}{origin}")

    def table(self) -> AttributeTable:
        """Return the attribute table."""
        table = self.attribute_table
        document = {"name": table.name, "attributes": table.attributes, "regions": table.further_regions}
        return parse_table_document(document, "attribute_table")


@dataclass(frozen=True)
class RunDescription:
    """What dataset.json records of a run besides the counts of its shards.

    Attributes
    ----------
    source : SourceDataset
    table : AttributeTable
    images : str
        The image folder.
    hint_files : tuple of str
        Of the face boxes and of the five points.
    crop : str
    refine : str or None
    seed, skipped_missing : int
    versions : mapping of str to str or int
    """

    attparse_version: str
    source: SourceDataset
    table: AttributeTable
    images: str
    hint_files: tuple[str, ...]
    crop: str
    refine: str | None
    seed: int
    skipped_missing: int
    versions: Mapping[str, str | int]


def build_dataset_file(run: RunDescription, summaries: Sequence[ShardSummary]) -> DatasetFile:
    """Return the content of dataset.json for a run whose shards are all built; `summaries` is in their order."""
    table = run.table
    return DatasetFile(
        format_version=FORMAT_VERSION,
        attparse_version=run.attparse_version,
        source=run.source,
        attributes=tuple(table.attributes),
        regions=table.region_names,
        attribute_table=TableEntry(
            name=table.name,
            attributes={name: list(regions) for name, regions in table.attributes.items()},
            further_regions={
                name: [[v if isinstance(v, int) else dict(v) for v in outline] for outline in outlines]
                for name, outlines in table.further_regions.items()
            },
        ),
        image_size=(IMAGE_HEIGHT, IMAGE_WIDTH),
        mask_size=(MASK_HEIGHT, MASK_WIDTH),
        images=run.images,
        crop=run.crop,
        refine=run.refine,
        seed=run.seed,
        samples=sum(summary.samples for summary in summaries),
        rejected=sum(summary.rejected for summary in summaries),
        skipped_missing=run.skipped_missing,
        splits={
            split: SplitCounts(
                shards=len(own),
                samples=sum(summary.samples for summary in own),
                rejected=sum(summary.rejected for summary in own),
            )
            for split in SPLITS
            if (own := [summary for summary in summaries if summary.split == split])
        },
        landmark_sources=_total(summary.landmark_sources for summary in summaries),
        rejects=_total(summary.reasons for summary in summaries),
        hints=HintEntry(
            files=run.hint_files,
            agree=sum(summary.hints_agree for summary in summaries),
            disagree=sum(summary.hints_disagree for summary in summaries),
            sampled_agree=sum(summary.sampled_hints_agree for summary in summaries),
            sampled_disagree=sum(summary.sampled_hints_disagree for summary in summaries),
        ),
        versions=dict(run.versions),
        shards=tuple(
            ShardEntry(
                name=summary.name,
                split=summary.split,
                samples=summary.samples,
                rejected=summary.rejected,
                bytes=summary.bytes,
                sha256=summary.sha256,
            )
            for summary in summaries
        ),
    )


def _total(counts: Iterable[Mapping[Word, int]]) -> dict[Word, int]:
    total: Counter[Word] = Counter()
    for count in counts:
        total.update(count)
    return dict(total.most_common())


def write_dataset_file(output: str, dataset: DatasetFile) -> None:
    """Write dataset.json into the folder of a run."""
    content = msgspec.json.format(msgspec.json.encode(dataset), indent=1) + b"\n"
    storage.write_bytes(RunFolder(output).dataset_json, content)


def read_dataset_file(output: str) -> DatasetFile:
    """Return the content of the dataset.json of a finished run.

    Parameters
    ----------
    output : str
        Folder of the run, local or remote.

    Raises
    ------
    InputError
        If there is none, it has another format version, or a field is missing or wrong.
    """
    path = RunFolder(output).dataset_json
    try:
        content = read_json_file(path)
    except OSError as error:
        if not storage.exists(output):
            raise InputError(f"{output}: no such folder") from None
        if not storage.exists(path):
            raise InputError(f"{output}: no {DATASET_FILE}, expected the folder of a finished run") from None
        raise InputError(f"{path}: {error.strerror or error}") from None
    return parse_dataset_file(content, path)


def parse_dataset_file(content: bytes, path: str) -> DatasetFile:
    """Parse dataset.json.

    Parameters
    ----------
    content : bytes
    path : str
        For messages.

    Raises
    ------
    InputError
        If it has another format version, or a field is missing or wrong.
    """
    check_version(content, path)
    return decode_json(content, DatasetFile, path, InputError)


def check_version(content: bytes, path: str) -> None:
    """Check the format version, before the fields: those of another version may differ.

    Raises
    ------
    InputError
        If the content is not valid JSON, or has another version.
    """
    document = decode_json(content, object, path, InputError)
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(f"{path}: format_version is {version!r}, expected {FORMAT_VERSION}")
