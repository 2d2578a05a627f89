"""Writing a shard from its plan, and reading samples back from its tar file."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from pipeline import manifest, progress, storage
from pipeline.annotate import Annotator, Stopwatch
from pipeline.plan import load_plan
from pipeline.records import Annotated, BuildSettings, ShardPlan, ShardSummary
from regions.masks import MASK_HEIGHT, MASK_WIDTH

JPEG, MASKS, JSON = "jpg", "masks.png", "json"
"""Endings of a sample's members, in the order in which they stand in the tar file."""


def shard_path(output: str, name: str) -> str:
    """Return where the tar file of a shard lies."""
    return storage.join(output, "shards", f"{name}.tar")


def build_shard(name: str, settings: BuildSettings, annotator: Annotator, stopwatch: Stopwatch) -> ShardSummary:
    """Build one shard from its saved plan: the tar file, then its manifest as the record of completion.

    Parameters
    ----------
    name : str
        Such as ``train-000000``.
    settings : BuildSettings
    annotator : Annotator
    stopwatch : Stopwatch
        Told how long writing took.

    Raises
    ------
    RuntimeError
        For an error that is not foreseen, with the image's id in the message.
    """
    plan = load_plan(settings.output, name)
    attributes = list(settings.table.attributes)
    rows: list[manifest.ManifestRow] = []
    with storage.create(shard_path(settings.output, name)) as stream:
        writer = SampleWriter(stream)
        for row in plan.images.rows():
            try:
                result = annotator.annotate(row)
            except Exception as error:
                raise RuntimeError(f"image {row.image_id!r} of shard {name}: {error!r}") from error
            if isinstance(result, Annotated):
                with stopwatch.time("write"):
                    writer.add(result, plan.split, attributes)
            rows.append(manifest.manifest_row(result))
            progress.image_done(written=isinstance(result, Annotated))
        writer.close()
    summary = _summary(plan, rows, writer)
    with stopwatch.time("write"):
        manifest.write_manifest(settings.output, plan, rows, attributes, summary)
    return summary


def _summary(plan: ShardPlan, rows: list[manifest.ManifestRow], writer: SampleWriter) -> ShardSummary:
    rungs = Counter(row.rung for row in rows if row.rung)
    reasons = Counter(row.reason for row in rows if row.reason)
    return ShardSummary(
        name=plan.name,
        split=plan.split,
        fingerprint=plan.fingerprint,
        samples=sum(rungs.values()),
        rejected=sum(reasons.values()),
        bytes=writer.bytes,
        sha256=writer.sha256,
        rungs=dict(sorted(rungs.items())),
        reasons=dict(sorted(reasons.items())),
    )


class SampleWriter:
    """Writes samples to a tar file whose bytes depend on nothing but the samples.

    Parameters
    ----------
    stream : binary stream
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = storage.HashingWriter(stream)
        self._tar = tarfile.TarFile(fileobj=self._stream, mode="w", format=tarfile.USTAR_FORMAT)  # type: ignore[arg-type]

    def add(self, sample: Annotated, split: str, attributes: list[str]) -> None:
        """Append the three members of a sample."""
        description = {
            "image_id": sample.row.image_id,
            "split": split,
            "labels": dict(zip(attributes, sample.row.labels.astype(int).tolist(), strict=True)),
            "landmarks": sample.landmarks.tolist(),
            "crop": list(sample.crop),
            "rung": sample.rung,
        }
        self._member(f"{sample.row.key}.{JPEG}", sample.jpeg)
        self._member(f"{sample.row.key}.{MASKS}", sample.png)
        self._member(f"{sample.row.key}.{JSON}", json.dumps(description, separators=(",", ":")).encode())

    def _member(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        info.mode = 0o644
        self._tar.addfile(info, io.BytesIO(content))

    def close(self) -> None:
        """Write the end of the tar file."""
        self._tar.close()

    @property
    def bytes(self) -> int:
        """Size of the tar file."""
        return self._stream.bytes

    @property
    def sha256(self) -> str:
        """Hash of the tar file."""
        return self._stream.sha256


@dataclass(frozen=True)
class Sample:
    """A sample as it is read back.

    Attributes
    ----------
    key : str
    jpeg, png : bytes
    description : dict
        The JSON member.
    """

    key: str
    jpeg: bytes
    png: bytes
    description: dict[str, Any]


class ShardError(Exception):
    """A shard that can't be read; the message names the shard and the sample."""


def read_samples(path: str) -> Iterator[Sample]:
    """Yield the samples of a tar file in order.

    Raises
    ------
    ShardError
        If the file is no tar file, or a sample lacks a member or has an unknown one.
    """
    try:
        with storage.open_read(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            yield from _group_members(path, tar)
    except (tarfile.TarError, OSError) as error:
        raise ShardError(f"{path}: {error}") from None


def _group_members(path: str, tar: tarfile.TarFile) -> Iterator[Sample]:
    members: dict[str, bytes] = {}
    last_key = ""
    for info in tar:
        key, _, ending = info.name.partition(".")
        expected = (JPEG, MASKS, JSON)[len(members)]
        content = tar.extractfile(info)
        if ending != expected or content is None:
            raise ShardError(f"{path}: member {info.name!r}, expected one ending in .{expected}")
        if members and key != last_key:
            raise ShardError(f"{path}: member {info.name!r}, expected .{expected} of sample {last_key!r}")
        last_key = key
        members[ending] = content.read()
        if ending == JSON:
            with contextlib.suppress(ValueError):
                yield Sample(key, members[JPEG], members[MASKS], json.loads(members[JSON]))
                members = {}
            if members:
                raise ShardError(f"{path}: sample {key!r}: {ending} is not valid JSON")
    if members:
        raise ShardError(f"{path}: sample {last_key!r} has no .{(JPEG, MASKS, JSON)[len(members)]}")


def decode_planes(png: bytes) -> npt.NDArray[np.uint8]:
    """Decode the packed masks of a sample: ``(planes, 96, 76)`` uint8.

    Raises
    ------
    ValueError
        If the bytes are no gray PNG of such planes.
    """
    stacked = cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if stacked is None:
        raise ValueError("masks are not a PNG")
    if (
        stacked.ndim != 2
        or stacked.dtype != np.uint8
        or stacked.shape[1] != MASK_WIDTH
        or stacked.shape[0] % MASK_HEIGHT
    ):
        raise ValueError(f"masks have shape {stacked.shape}, expected (n * {MASK_HEIGHT}, {MASK_WIDTH}) gray")
    return np.asarray(stacked, dtype=np.uint8).reshape(-1, MASK_HEIGHT, MASK_WIDTH)
