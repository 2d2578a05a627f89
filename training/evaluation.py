"""Evaluate networks on shards or folders of images: measures, charts, and maps overlaid on faces."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from regions.csv_cells import defused
from regions.file_names import as_text
from regions.label_file import UNKNOWN
from regions.messages import counted
from training.batches import Batch
from training.checkpoint import TrainedModel, load_model
from training.cli_common import DataError
from training.config import EvaluateConfig
from training.dataset_json import check_shards, read_dataset
from training.devices import available_cores, choose_device
from training.face_images import faces_in_batches
from training.label_file import image_path, match_attributes, read_labels
from training.loader import Loader, LoaderSettings
from training.metrics import MEASURES, ConfusionCounts, MapCounts, average_precision, describe, format_means
from training.plots import LabeledFace, draw_bars, draw_localization
from training.storage import join, write_text
from training.transforms import prepare

FACES_SHOWN, ATTRIBUTES_SHOWN = 6, 8


@dataclass(frozen=True)
class LabeledImages:
    """Batches of images with their labels.

    Attributes
    ----------
    name : str
        Folder and split, for messages.
    attributes : tuple of str
        Of the labels and masks.
    samples : int
    batches : iterator of Batch
    loader : Loader or None
        Counts skipped samples.
    """

    name: str
    attributes: tuple[str, ...]
    samples: int
    batches: Iterator[Batch]
    loader: Loader | None = None


def evaluate(config: EvaluateConfig) -> None:
    """Evaluate all checkpoints and write the results.

    Raises
    ------
    DataError
        If an argument, a checkpoint or the data cannot be used.
    """
    _check_options(config)
    device = choose_device(config.device)
    results: dict[str, Any] = {}
    for index, (name, path) in enumerate(_names(config.checkpoint).items()):
        trained = load_model(path, device)
        results[name], faces, shown = _evaluate_one(trained, _source(config, index), device, config.masks, name)
        draw_localization(faces, shown, os.path.join(config.output, f"localization_{name}.png"))
        print(f"{name}: {counted(results[name]['samples'], 'sample')}; mean {format_means(results[name]['mean'])}")
    write_text(os.path.join(config.output, "metrics.json"), json.dumps(results, indent=1) + "\n")
    write_text(os.path.join(config.output, "metrics.csv"), _as_csv(results))
    for measure in ("accuracy", "balanced_accuracy"):
        draw_bars(results, measure, os.path.join(config.output, f"{measure}.png"))
    print(f"charts: {os.path.join(config.output, 'accuracy.png')}")


def _check_options(config: EvaluateConfig) -> None:
    if bool(config.data) == bool(config.images) or bool(config.images) != bool(config.labels):
        raise DataError("expected either --data, or --images and --labels")
    if config.data and len(config.data) not in (1, len(config.checkpoint)):
        raise DataError(f"{len(config.data)} --data for {len(config.checkpoint)} --checkpoint, expected one or as many")
    if config.images and config.masks:
        raise DataError("--masks: --images come without masks")


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Return the checkpoints by folder name, numbered if two names are equal."""
    short = [as_text(os.path.basename(os.path.dirname(os.path.abspath(path)))) or "checkpoint" for path in paths]
    if len(set(short)) < len(short):
        short = [f"{index + 1}_{name}" for index, name in enumerate(short)]
    return dict(zip(short, paths, strict=True))


def _source(config: EvaluateConfig, index: int) -> LabeledImages:
    if config.images and config.labels:
        return _folder_source(config.images, config.labels, config.batch_size)
    folders = config.data or []
    folder = folders[index if len(folders) > 1 else 0]
    dataset = read_dataset(folder)
    check_shards(dataset.shards_of(config.split), checksums=config.verify_checksums)
    settings = LoaderSettings(
        config.split,
        config.batch_size,
        available_cores() if config.workers is None else config.workers,
        masks=config.masks,
        skip_bad_samples=config.skip_bad_samples,
    )
    loader = Loader(dataset, settings)
    name = f"{folder} ({config.split})"
    return LabeledImages(name, dataset.attributes, loader.samples(), loader.batches(0), loader)


def _folder_source(folder: str, label_file: str, size: int) -> LabeledImages:
    table = read_labels(label_file)
    paths = [image_path(folder, image_id) for image_id in table.image_ids]

    def batches() -> Iterator[Batch]:
        begin = 0
        for faces in faces_in_batches(paths, size):
            rows = slice(begin, begin + len(faces))
            begin += len(faces)
            yield Batch(torch.from_numpy(faces), None, torch.from_numpy(table.values[rows]), table.image_ids[rows])

    return LabeledImages(join(folder, ""), table.names, len(paths), batches())


def _evaluate_one(
    trained: TrainedModel, source: LabeledImages, device: torch.device, masks: bool, name: str
) -> tuple[dict[str, Any], list[LabeledFace], list[str]]:
    """Return all measures of a network, faces with their maps, and the names of these maps."""
    places = match_attributes(trained.attributes, source.attributes)
    if not places:
        raise DataError(f"{source.name}: has none of the checkpoint's attributes")
    left_out = [attribute for attribute in trained.attributes if attribute not in places]
    if left_out:
        print(f"{name}: left out, since {source.name} lacks them: {', '.join(left_out)}")
    own = [trained.attributes.index(attribute) for attribute in places]
    theirs = list(places.values())
    confusion, overlaps = ConfusionCounts(len(own), device), MapCounts(len(own), device)
    scores, truths = [], []
    faces: list[LabeledFace] = []
    with torch.inference_mode(), tqdm(total=source.samples, unit=" images", desc=name) as bar:
        for batch in source.batches:
            prepared = prepare(batch, device)
            logits, maps = trained.model(prepared.images)
            logits, maps, labels = logits[:, own], maps[:, own], prepared.labels[:, theirs]
            confusion.add(logits, labels)
            if prepared.masks is not None:
                overlaps.add(maps, prepared.masks[:, theirs])
            scores.append(logits.cpu().numpy())
            truths.append(labels.cpu().numpy())
            if len(faces) < FACES_SHOWN:
                faces += _faces(batch, logits, maps)[: FACES_SHOWN - len(faces)]
            bar.update(len(batch.keys))
    if not scores:
        raise DataError(f"{source.name}: no sample could be read")
    truth = np.concatenate(truths)
    precision = average_precision(np.concatenate(scores), truth)
    result = {
        "data": source.name,
        "samples": len(truth),
        "unknown_labels": int((truth == UNKNOWN).sum()),
        "left_out": left_out,
        "skipped_samples": _print_skipped(source),
        **describe(list(places), confusion.counts, precision, overlaps.iou() if masks else None),
    }
    return result, *_surest_attributes(faces, list(places))


def _print_skipped(source: LabeledImages) -> int:
    skipped = source.loader.skipped if source.loader else []
    for entry in skipped:
        print(f"skipped {counted(entry.samples, 'sample')}: {entry.reason}", file=sys.stderr)
    return sum(entry.samples for entry in skipped)


def _faces(batch: Batch, logits: torch.Tensor, maps: torch.Tensor) -> list[LabeledFace]:
    probabilities = logits[:FACES_SHOWN].sigmoid().cpu().numpy()
    shown = maps[:FACES_SHOWN].float().cpu().numpy()
    parts = zip(batch.keys, batch.images[:FACES_SHOWN].numpy(), shown, probabilities, strict=False)
    return [LabeledFace(*part) for part in parts]


def _surest_attributes(faces: list[LabeledFace], attributes: list[str]) -> tuple[list[LabeledFace], list[str]]:
    """Keep the maps of the attributes with the highest probability in any of the faces."""
    surest = np.max([face.probabilities for face in faces], axis=0)
    kept = np.sort(np.argsort(-surest, kind="stable")[:ATTRIBUTES_SHOWN])
    shown = [LabeledFace(face.title, face.pixels, face.maps[kept], face.probabilities[kept]) for face in faces]
    return shown, [attributes[index] for index in kept]


def _as_csv(results: dict[str, Any]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["run", "attribute", "known", "positive", *MEASURES])
    for run, result in results.items():
        for attribute, values in result["attributes"].items():
            measures = [_cell(values.get(measure)) for measure in MEASURES]
            writer.writerow([defused(run), defused(attribute), values["known"], values["positive"], *measures])
        writer.writerow([defused(run), "mean", "", "", *(_cell(result["mean"].get(measure)) for measure in MEASURES)])
    return stream.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
