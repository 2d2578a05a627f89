"""Landmarks and region polygons of many images as GeoParquet 1.1, written with pyarrow alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from pipeline.formats.manifest import landmark_rows
from regions.attributes import AttributeTable
from regions.landmarks import NUM_LANDMARKS
from regions.polygons import clip_to_frame, region_polygons

PLAIN_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("key", pa.string()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("landmark_source", pa.string()),
        ("landmarks", pa.list_(pa.float32(), 2 * NUM_LANDMARKS)),
        ("crop", pa.list_(pa.int32(), 4)),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("sha256", pa.string()),
    ]
)
"""Columns beside the polygons, and their types."""
COLUMNS: tuple[str, ...] = tuple(PLAIN_SCHEMA.names)


def landmark_schema(region_names: Sequence[str]) -> pa.Schema:
    """Return the schema of landmarks.parquet, with the GeoParquet description of the polygons in its metadata."""
    polygons = [pa.field(name, pa.binary()) for name in region_names]
    return pa.schema([*PLAIN_SCHEMA, *polygons], metadata={b"geo": json.dumps(_geo(region_names)).encode()})


def _geo(region_names: Sequence[str]) -> dict[str, Any]:
    # Without "crs": null readers take coordinates for degrees on Earth.
    column = {"encoding": "WKB", "geometry_types": ["Polygon", "MultiPolygon"], "crs": None, "edges": "planar"}
    return {
        "version": "1.1.0",
        "primary_column": region_names[0],
        "columns": dict.fromkeys(region_names, column),
    }


def landmark_table(rows: pa.Table, table: AttributeTable) -> pa.Table:
    """Return rows of landmarks.parquet.

    Parameters
    ----------
    rows : pyarrow.Table
        Written images of a manifest, with `COLUMNS`.
    table : AttributeTable
        Whose regions are drawn, clipped to the image, in pixels of the source image; one without area is
        an empty polygon.
    """
    schema = landmark_schema(table.region_names)
    sizes = zip(rows["width"].to_pylist(), rows["height"].to_pylist(), strict=True)
    polygons = [
        clip_to_frame(region_polygons(landmarks.astype(np.float64), table.further_regions), *size)
        for landmarks, size in zip(landmark_rows(rows), sizes, strict=True)
    ]
    of_region = np.array(polygons, dtype=object).reshape(len(polygons), len(table.region_names)).T
    encoded = [pa.array(shapely.to_wkb(column, byte_order=1), pa.binary()) for column in of_region]
    plain = [rows[name].combine_chunks().cast(schema.field(name).type) for name in COLUMNS]
    return pa.table([*plain, *encoded], schema=schema)
