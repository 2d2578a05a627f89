"""``attparse-evaluate``: how well networks tell attributes, and show where they are."""

from __future__ import annotations

import argparse
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

from training.checkpoint import Trained, load_model
from training.cli_common import (
    DataError,
    add_device,
    choose_device,
    local_path,
    make_command_parser,
    not_negative,
    positive,
    run_command,
)
from training.dataset_json import check_shards, read_dataset
from training.face_images import faces_in_batches
from training.label_file import image_path, match_attributes, read_labels
from training.loader import Batch, Loader, LoaderSettings
from training.metrics import MEASURES, UNKNOWN, ConfusionCounts, MapCounts, average_precision, describe, tell_means
from training.plots import Face, draw_bars, draw_localisation
from training.storage import join, write_text
from training.transforms import prepare

FACES_SHOWN, ATTRIBUTES_SHOWN = 6, 8


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = make_parser().parse_args(argv)
    return run_command("attparse-evaluate", lambda: evaluate(options))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``attparse-evaluate``."""
    parser = make_command_parser(
        "attparse-evaluate",
        "Measure how well networks tell attributes: on a split of a run, or on a folder of images with a label file."
        " Several checkpoints are shown side by side.",
    )
    add = parser.add_argument
    add("--checkpoint", required=True, action="append", metavar="F", help="best.pt of a training (may be repeated)")
    add(
        "--data",
        action="append",
        metavar="OUT",
        help="folder of a run; with several checkpoints one for all, or one for each, in their order",
    )
    add("--split", choices=("train", "val", "test"), default="test", help="split of --data (default: test)")
    add("--images", metavar="DIR", help="instead of --data: images of faces, such as those of LFWA or UMD-AED")
    add(
        "--labels",
        metavar="FILE",
        help="label file of --images: CelebA's layout or CSV; 0 beside -1, or nothing, is unknown",
    )
    add("--to", required=True, type=local_path, metavar="DIR", help="folder for metrics.csv, metrics.json and images")
    add("--masks", action="store_true", help="read the masks too, and compare the maps with them")
    add("--batch_size", type=positive, metavar="N", default=64, help="(default: 64)")
    add(
        "--workers",
        type=not_negative,
        metavar="N",
        default=os.cpu_count() or 1,
        help="threads that read and decode --data",
    )
    add("--skip_bad_samples", action="store_true", help="count samples that can't be read, and go on")
    add("--verify_checksums", action="store_true", help="compare the shards with dataset.json first")
    add_device(parser)
    return parser


@dataclass(frozen=True)
class Source:
    """Samples with their labels.

    Attributes
    ----------
    name : str
        Folder and split, for messages.
    attributes : tuple of str
        Of the labels and masks.
    samples : int
    batches : iterator of Batch
    loader : Loader or None
        That counts what was skipped.
    """

    name: str
    attributes: tuple[str, ...]
    samples: int
    batches: Iterator[Batch]
    loader: Loader | None = None


def evaluate(options: argparse.Namespace) -> None:
    """Evaluate all checkpoints and write the results.

    Raises
    ------
    DataError
        If an argument, a checkpoint or the data can't be used.
    """
    _check_options(options)
    device = choose_device(options.device)
    results: dict[str, Any] = {}
    for index, (name, path) in enumerate(_names(options.checkpoint).items()):
        trained = load_model(path, device)
        results[name], faces, shown = _evaluate_one(trained, _source(options, index), device, options.masks, name)
        draw_localisation(faces, shown, os.path.join(options.to, f"localisation_{name}.png"))
        print(f"{name}: {results[name]['samples']} samples; mean {tell_means(results[name]['mean'])}")
    write_text(os.path.join(options.to, "metrics.json"), json.dumps(results, indent=1) + "\n")
    write_text(os.path.join(options.to, "metrics.csv"), _as_csv(results))
    for measure in ("accuracy", "balanced_accuracy"):
        draw_bars(results, measure, os.path.join(options.to, f"{measure}.png"))
    print(f"look at {os.path.join(options.to, 'accuracy.png')}")


def _check_options(options: argparse.Namespace) -> None:
    if bool(options.data) == bool(options.images) or bool(options.images) != bool(options.labels):
        raise DataError("expected either --data, or --images and --labels")
    if options.data and len(options.data) not in (1, len(options.checkpoint)):
        raise DataError(
            f"{len(options.data)} --data for {len(options.checkpoint)} --checkpoint, expected one or as many"
        )
    if options.images and options.masks:
        raise DataError("--masks: --images have none")


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Return the checkpoints by the name of their folder, or by a longer name where two would have the same."""
    short = [os.path.basename(os.path.dirname(os.path.abspath(path))) or "checkpoint" for path in paths]
    if len(set(short)) < len(short):
        short = [f"{index + 1}_{name}" for index, name in enumerate(short)]
    return dict(zip(short, paths, strict=True))


def _source(options: argparse.Namespace, index: int) -> Source:
    if options.images:
        return _folder_source(options.images, options.labels, options.batch_size)
    folder = options.data[index if len(options.data) > 1 else 0]
    dataset = read_dataset(folder)
    check_shards(dataset.shards_of(options.split), checksums=options.verify_checksums)
    settings = LoaderSettings(
        options.split,
        options.batch_size,
        options.workers,
        masks=options.masks,
        skip_bad_samples=options.skip_bad_samples,
    )
    loader = Loader(dataset, settings)
    name = f"{folder} ({options.split})"
    return Source(name, dataset.attributes, loader.samples(), loader.batches(0), loader)


def _folder_source(folder: str, label_file: str, size: int) -> Source:
    labels = read_labels(label_file)
    paths = [image_path(folder, image_id) for image_id in labels.image_ids]

    def batches() -> Iterator[Batch]:
        begin = 0
        for faces in faces_in_batches(paths, size):
            rows = slice(begin, begin + len(faces))
            begin += len(faces)
            yield Batch(torch.from_numpy(faces), None, torch.from_numpy(labels.values[rows]), labels.image_ids[rows])

    return Source(join(folder, ""), labels.attributes, len(paths), batches())


def _evaluate_one(
    trained: Trained, source: Source, device: torch.device, masks: bool, name: str
) -> tuple[dict[str, Any], list[Face], list[str]]:
    """Return all measures of a network, faces with their maps, and the names of these maps."""
    places = match_attributes(trained.attributes, source.attributes)
    if not places:
        raise DataError(f"{source.name}: has none of the attributes that the checkpoint knows")
    left_out = [attribute for attribute in trained.attributes if attribute not in places]
    if left_out:
        print(f"{name}: left out, since {source.name} does not have them: {', '.join(left_out)}")
    own = [trained.attributes.index(attribute) for attribute in places]
    theirs = list(places.values())
    confusion, overlaps = ConfusionCounts(len(own), device), MapCounts(len(own), device)
    scores, truths = [], []
    faces: list[Face] = []
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
        "skipped_samples": _tell_skipped(source),
        **describe(list(places), confusion.counts, precision, overlaps.iou() if masks else None),
    }
    return result, *_most_telling(faces, list(places))


def _tell_skipped(source: Source) -> int:
    skipped = source.loader.skipped if source.loader else []
    for entry in skipped:
        print(f"skipped {entry.samples} samples: {entry.reason}", file=sys.stderr)
    return sum(entry.samples for entry in skipped)


def _faces(batch: Batch, logits: torch.Tensor, maps: torch.Tensor) -> list[Face]:
    probabilities = logits[:FACES_SHOWN].sigmoid().cpu().numpy()
    shown = maps[:FACES_SHOWN].float().cpu().numpy()
    parts = zip(batch.keys, batch.images[:FACES_SHOWN].numpy(), shown, probabilities, strict=False)
    return [Face(*part) for part in parts]


def _most_telling(faces: list[Face], attributes: list[str]) -> tuple[list[Face], list[str]]:
    """Keep the maps of the attributes that are surest in any of the faces."""
    surest = np.max([face.probabilities for face in faces], axis=0)
    kept = np.sort(np.argsort(-surest, kind="stable")[:ATTRIBUTES_SHOWN])
    shown = [Face(face.title, face.pixels, face.maps[kept], face.probabilities[kept]) for face in faces]
    return shown, [attributes[index] for index in kept]


def _as_csv(results: dict[str, Any]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["run", "attribute", "known", "positive", *MEASURES])
    for run, result in results.items():
        for attribute, values in result["attributes"].items():
            measures = [_cell(values.get(measure)) for measure in MEASURES]
            writer.writerow([run, attribute, values["known"], values["positive"], *measures])
        writer.writerow([run, "mean", "", "", *(_cell(result["mean"].get(measure)) for measure in MEASURES)])
    return stream.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


if __name__ == "__main__":
    sys.exit(main())
