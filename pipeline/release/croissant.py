"""croissant.json of a release: Croissant 1.1 with the properties for responsible AI (RAI 1.0)."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.formats.dataset_json import DatasetFile
from pipeline.release.dataset_card import (
    BIASES,
    CITATION,
    LIMITATIONS,
    PROTOCOL,
    SENSITIVE,
    SOURCE_URL,
    USES,
    release_name,
    source_name,
)
from pipeline.release.release_json import CONTACT_SHEET, LANDMARKS, LICENSE, REJECTS, TABLE, FileEntry
from regions.landmarks import NUM_LANDMARKS

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that Croissant 1.1 asks for, word by word."""

PARQUET = ["application/vnd.apache.parquet", "application/x-parquet"]
"""The registered type, and the one that mlcroissant reads."""
FORMATS: dict[str, str | list[str]] = {
    "parquet": PARQUET,
    "csv": "text/csv",
    "toml": "application/toml",
    "png": "image/png",
    "md": "text/markdown",
    "tar": "application/x-tar",
}
TEXT, FLOAT, INTEGER = "sc:Text", "cr:Float32", "cr:Int32"


def describe_croissant(
    dataset: DatasetFile, files: Mapping[str, FileEntry], url: str | None, creator: str | None
) -> bytes:
    """Return the content of croissant.json.

    Parameters
    ----------
    dataset : mapping
        Content of the run's dataset.json.
    files : mapping of str to mapping
        ``bytes`` and ``sha256`` of the files to list, by name.
    url : str or None
        Where the release will be found; without it, the page of the data set that it was made from.
    creator : str or None
    """
    shards = [name for name in files if name.endswith(".tar")]
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": release_name(dataset),
        "description": f"Where each attribute of {source_name(dataset)}'s images lies: landmarks, region polygons"
        f"{' and weak attribute masks' if shards else ''}, made by rules from detected landmarks. It holds no images.",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "citeAs": CITATION,
        "license": SOURCE_URL,
        "url": url or SOURCE_URL,
        "version": "1.0.0",
        "datePublished": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "keywords": ["face attributes", "facial landmarks", "segmentation", "weak labels"],
        "creator": {"@type": "sc:Organization", "name": creator or "the publisher of this release"},
        **_responsible_ai(dataset),
        "distribution": [_file_object(name, files[name]) for name in files] + _file_sets(shards),
        "recordSet": [_landmarks(dataset), _rejects(), *(_of_shards() if shards else [])],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _responsible_ai(dataset: DatasetFile) -> dict[str, Any]:
    source = source_name(dataset)
    return {
        "rai:dataCollection": f"No data was collected: all was derived from {source}'s images and labels.",
        "rai:dataCollectionType": ["Secondary Data analysis"],
        "rai:dataCollectionMissingData": f"{REJECTS} lists the images for which nothing could be made, and why.",
        "rai:dataAnnotationProtocol": PROTOCOL,
        "rai:annotationsPerItem": "1",
        "rai:machineAnnotationTools": [f"{name} {value}" for name, value in dataset.versions.items()],
        "rai:dataBiases": BIASES,
        "rai:dataLimitations": LIMITATIONS,
        "rai:dataUseCases": USES,
        "rai:personalSensitiveInformation": SENSITIVE,
    }


def _file_object(name: str, file: FileEntry) -> dict[str, Any]:
    descriptions = {
        LANDMARKS: "GeoParquet: landmarks, crop box and region polygons of each image.",
        REJECTS: "Images for which nothing could be made, and why.",
        TABLE: "Which regions each attribute is seen in.",
        LICENSE: "On what terms the release may be used.",
        CONTACT_SHEET: "The ten regions, drawn over an image in the public domain.",
    }
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name.rpartition("/")[2],
        "description": descriptions.get(name, "Masks and description of each image, as WebDataset."),
        "contentUrl": name,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": FORMATS[name.rpartition(".")[2]],
        "sha256": file.sha256,
    }


def _file_sets(shards: Sequence[str]) -> list[dict[str, Any]]:
    if not shards:
        return []
    kinds = (("mask-files", "*.masks.png", "image/png"), ("json-files", "*.json", "application/json"))
    return [
        {
            "@type": "cr:FileSet",
            "@id": identifier,
            "name": identifier,
            "description": f"The members {pattern} of all shards.",
            "containedIn": [{"@id": name} for name in shards],
            "encodingFormat": encoding,
            "includes": pattern,
        }
        for identifier, pattern, encoding in kinds
    ]


def _record_set(name: str, description: str, fields: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "key": {"@id": f"{name}/{key}"},
        "field": fields,
    }


def _column(file: str, name: str, data_type: str, description: str, shape: str | None = None) -> dict[str, Any]:
    record_set = file.rpartition(".")[0]
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "description": description,
        "dataType": data_type,
        "source": {"fileObject": {"@id": file}, "extract": {"column": name}},
    }
    return field | ({"isArray": True, "arrayShape": shape} if shape else {})


def _landmarks(dataset: DatasetFile) -> dict[str, Any]:
    columns = [
        ("image_id", TEXT, "The image, as the source's label file names it.", None),
        ("key", TEXT, "Name of its sample in the mask shards.", None),
        ("split", TEXT, "train, val or test.", None),
        ("shard", TEXT, "The shard that it lies in.", None),
        ("landmark_source", TEXT, "How the landmarks were found; five_points is weak.", None),
        ("landmarks", FLOAT, "68 iBUG landmarks x, y, in pixels of the source image.", str(2 * NUM_LANDMARKS)),
        ("crop", INTEGER, "x0, y0, x1, y1 of the face crop, in pixels of the source image.", "4"),
        ("height", INTEGER, "Of the source image, in pixels.", None),
        ("width", INTEGER, "Of the source image, in pixels.", None),
        ("sha256", TEXT, "Of the source image's file.", None),
    ]
    polygons = [
        (name, TEXT, f"Region {name}: WKB, x right and y down, in pixels of the source image.", None)
        for name in dataset.regions
    ]
    fields = [_column(LANDMARKS, *column) for column in (*columns, *polygons)]
    return _record_set("landmarks", "Landmarks and regions of each image.", fields, "image_id")


def _rejects() -> dict[str, Any]:
    columns = [
        ("image_id", "The image, as the source's label file names it."),
        ("split", "train, val or test."),
        ("reason", "One word."),
        ("detail", "What was found."),
    ]
    fields = [_column(REJECTS, name, TEXT, description) for name, description in columns]
    return _record_set("rejects", "Images for which nothing could be made.", fields, "image_id")


def _of_shards() -> list[dict[str, Any]]:
    def member(record_set: str, name: str, file_set: str, data_type: Any, description: str) -> dict[str, Any]:
        extract = (
            {"extract": {"fileProperty": "filename"}, "transform": {"regex": r"^([^.]+)"}}
            if name == "key"
            else {"extract": {"fileProperty": "content"}}
        )
        return {
            "@type": "cr:Field",
            "@id": f"{record_set}/{name}",
            "name": name,
            "description": description,
            "dataType": data_type,
            "source": {"fileSet": {"@id": file_set}, **extract},
        }

    key = "Name of the sample, as in landmarks.parquet."
    planes = "Eight masks to a plane, the first attribute in the highest bit; the planes below each other."
    masks = [
        member("masks", "key", "mask-files", TEXT, key),
        member("masks", "masks", "mask-files", ["sc:ImageObject", "cr:SegmentationMask"], planes),
    ]
    descriptions = [
        member("descriptions", "key", "json-files", TEXT, key),
        member(
            "descriptions", "json", "json-files", TEXT, "Labels, landmarks, crop, split and landmark_source, as JSON."
        ),
    ]
    return [
        _record_set("masks", "Packed attribute masks of each image.", masks, "key"),
        _record_set("descriptions", "What is known of each image.", descriptions, "key"),
    ]
