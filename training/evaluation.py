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
from regions.label_file import UNKNOWN, LabelTable
from regions.messages import counted, one_line
from training.batches import Batch
from training.checkpoint import TrainedModel, load_model
from training.cli_common import DataError
from training.config import EvaluateConfig
from training.dataset_json import check_shards, read_dataset
from training.devices import available_cores, choose_device
from training.face_images import Pixels, read_face
from training.label_file import image_path, match_attributes, read_labels
from training.loader import Loader, LoaderSettings, UnreadableSamples
from training.metrics import MEASURES, ConfusionCounts, MapCounts, average_precision, describe, format_means
from training.plots import LabeledFace, chart_path, draw_bars, draw_localization
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
    skipped : list of UnreadableSamples
        Grows while the batches are read.
    """

    name: str
    attributes: tuple[str, ...]
    samples: int
    batches: Iterator[Batch]
    skipped: list[UnreadableSamples]


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
        draw_localization(faces, shown, chart_path(config.output, f"localization_{name}", ".png"))
        means = format_means(results[name]["mean"])
        print(f"{one_line(name)}: {counted(results[name]['samples'], 'sample')}; mean {means}")
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
        return _folder_source(config.images, config.labels, config.batch_size, config.skip_bad_samples)
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
    return LabeledImages(name, dataset.attributes, loader.samples(), loader.batches(0), loader.skipped)


def _folder_source(folder: str, label_file: str, size: int, skip_bad_samples: bool) -> LabeledImages:
    table = read_labels(label_file)
    skipped: list[UnreadableSamples] = []
    if not skip_bad_samples:
        for image_id in table.image_ids:  # a missing image stops the command before it has begun
            image_path(folder, image_id)
    batches = _folder_batches(folder, table, size, skipped if skip_bad_samples else None)
    return LabeledImages(join(folder, ""), table.names, len(table.image_ids), batches, skipped)


def _folder_batches(
    folder: str, table: LabelTable, size: int, skipped: list[UnreadableSamples] | None
) -> Iterator[Batch]:
    """Yield the images of a label file with their labels; those that cannot be read are added to `skipped`."""
    rows: list[int] = []
    faces: list[Pixels] = []
    for row, image_id in enumerate(table.image_ids):
        try:
            faces.append(read_face(image_path(folder, image_id)))
        except DataError as error:
            if skipped is None:
                raise
            skipped.append(UnreadableSamples(1, str(error)))
        else:
            rows.append(row)
        if rows and (len(rows) == size or row + 1 == len(table.image_ids)):
            keys = [table.image_ids[row] for row in rows]
            yield Batch(torch.from_numpy(np.stack(faces)), None, torch.from_numpy(table.values[rows]), keys)
            rows, faces = [], []


def _evaluate_one(
    trained: TrainedModel, source: LabeledImages, device: torch.device, masks: bool, name: str
) -> tuple[dict[str, Any], list[LabeledFace], list[str]]:
    """Return all measures of a network, faces with their maps, and the names of these maps."""
    places = match_attributes(trained.attributes, source.attributes)
    if not places:
        raise DataError(f"{source.name}: has none of the checkpoint's attributes")
    left_out = [attribute for attribute in trained.attributes if attribute not in places]
    if left_out:
        print(one_line(f"{name}: left out, since {source.name} lacks them: {', '.join(left_out)}"))
    own = [trained.attributes.index(attribute) for attribute in places]
    theirs = list(places.values())
    confusion, overlaps = ConfusionCounts(len(own), device), MapCounts(len(own), device)
    scores, truths = [], []
    faces: list[LabeledFace] = []
    with torch.inference_mode(), tqdm(total=source.samples, unit=" images", desc=one_line(name)) as bar:
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
        raise DataError(f"{source.name}: no sample could be read; {_skipped_text(source.skipped)}")
    if source.skipped:
        print(f"{one_line(name)}: {_skipped_text(source.skipped)}", file=sys.stderr)
    truth = np.concatenate(truths)
    precision = average_precision(np.concatenate(scores), truth)
    result = {
        "data": source.name,
        "samples": len(truth),
        "unknown_labels": int((truth == UNKNOWN).sum()),
        "left_out": left_out,
        "skipped_samples": sum(entry.samples for entry in source.skipped),
        **describe(list(places), confusion.counts, precision, overlaps.iou() if masks else None),
    }
    return result, *_surest_attributes(faces, list(places))


def _skipped_text(skipped: Sequence[UnreadableSamples]) -> str:
    """Return how many samples were skipped, and why the first one was, in one line."""
    if not skipped:
        return "none was skipped"
    total = counted(sum(entry.samples for entry in skipped), "sample")
    others = f" (and {len(skipped) - 1:,} more)" if len(skipped) > 1 else ""
    return f"skipped {total}: {one_line(skipped[0].reason)}{others}"


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
