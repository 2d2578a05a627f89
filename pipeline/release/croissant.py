"""croissant.json of a release: Croissant 1.1 with the properties for responsible AI (RAI 1.0)."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.formats.dataset_json import DatasetFile
from pipeline.release.dataset_card import (
    BIASES,
    LIMITATIONS,
    PROTOCOL,
    SENSITIVE,
    USES,
    citations,
    release_name,
    source_license,
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
"""The context that Croissant 1.1 prescribes, verbatim."""

PARQUET = ["application/vnd.apache.parquet", "application/x-parquet"]
"""The registered media type, and the one that mlcroissant recognizes."""
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
    dataset : DatasetFile
        Of the run.
    files : mapping of str to FileEntry
        The files to list, by name.
    url : str or None
        Where the release will be published; without it, the page of the source data set, if that is named.
    creator : str or None
        Who publishes it.
    """
    shards = [name for name in files if name.endswith(".tar")]
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": release_name(dataset),
        "description": f"Where each attribute lies in the images of {source_name(dataset)}: landmarks, region polygons"
        f"{' and weak attribute masks' if shards else ''}, derived by rules from detected landmarks. It contains no"
        " images.",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "citeAs": " ".join(citations(dataset)),
        "license": source_license(dataset),
        **({"url": page} if (page := url or dataset.source.url) else {}),
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
        "rai:dataCollection": f"No data was collected: everything was derived from the images and labels of {source}.",
        "rai:dataCollectionType": ["Secondary Data analysis"],
        "rai:dataCollectionMissingData": f"{REJECTS} lists the images without usable landmarks, with the reason.",
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
        REJECTS: "Images without usable landmarks, with the reason.",
        TABLE: "The regions of each attribute.",
        LICENSE: "Terms of use.",
        CONTACT_SHEET: "The ten regions drawn over a public-domain image.",
    }
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name.rpartition("/")[2],
        "description": descriptions.get(name, "Masks and JSON description of each image, as WebDataset."),
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
        ("image_id", TEXT, "Image id in the label file of the source data set.", None),
        ("key", TEXT, "Name of the sample in the mask shards.", None),
        ("split", TEXT, "train, val or test.", None),
        ("shard", TEXT, "The shard of the sample.", None),
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
        ("image_id", "Image id in the label file of the source data set."),
        ("split", "train, val or test."),
        ("reason", "Reject reason, one word."),
        ("detail", "What was found."),
    ]
    fields = [_column(REJECTS, name, TEXT, description) for name, description in columns]
    return _record_set("rejects", "Images without usable landmarks.", fields, "image_id")


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
    packed = (
        "Packed masks: eight attributes per bit plane, the first in the highest bit; bit planes stacked vertically."
    )
    masks = [
        member("masks", "key", "mask-files", TEXT, key),
        member("masks", "masks", "mask-files", ["sc:ImageObject", "cr:SegmentationMask"], packed),
    ]
    descriptions = [
        member("descriptions", "key", "json-files", TEXT, key),
        member(
            "descriptions", "json", "json-files", TEXT, "Labels, landmarks, crop, split and landmark_source, as JSON."
        ),
    ]
    return [
        _record_set("masks", "Packed attribute masks of each image.", masks, "key"),
        _record_set("descriptions", "JSON description of each image.", descriptions, "key"),
    ]
