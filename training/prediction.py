"""Predict the attributes of face images and their maps, from the images alone."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch

from regions.file_names import as_text
from regions.messages import counted, one_line
from training.checkpoint import TrainedModel, load_model
from training.cli_common import DataError
from training.config import PredictConfig
from training.devices import choose_device
from training.face_images import read_face
from training.plots import LabeledFace, chart_path, draw_localization
from training.transforms import normalize

MAPS_SHOWN = 8


def predict(config: PredictConfig) -> None:
    """Print the attributes of each image and draw their maps.

    Raises
    ------
    DataError
        If the checkpoint cannot be read, or two images would be drawn to the same file; after the others have been
        predicted, if an image cannot be read.
    """
    device = choose_device(config.device)
    trained = load_model(config.checkpoint, device)
    targets = [_target(config.output, path) for path in config.images]
    for path, target in zip(config.images, targets, strict=True):
        if targets.count(target) > 1:
            raise DataError(f"{path}: another image has the same name, and both would be drawn to {target}")
    problems = []
    for path, target in zip(config.images, targets, strict=True):
        try:
            face = predict_face(trained, path, device)
        except DataError as error:
            problems.append(str(error))
            continue
        _print_and_draw(face, trained.attributes, path, target, all_attributes=config.all)
    if problems:
        raise DataError(
            f"{len(problems):,} of {counted(len(config.images), 'image')} cannot be read: {'; '.join(problems)}"
        )


def _print_and_draw(
    face: LabeledFace, attributes: Sequence[str], path: str, target: str, *, all_attributes: bool
) -> None:
    print(one_line(path))
    order = np.argsort(-face.probabilities, kind="stable")
    for index in order:
        if all_attributes or face.probabilities[index] > 0.5:
            print(f"  {one_line(attributes[index])} {face.probabilities[index]:.3f}")
    surest = order[:MAPS_SHOWN]
    shown = LabeledFace(face.title, face.pixels, face.maps[surest], face.probabilities[surest])
    draw_localization([shown], [attributes[index] for index in surest], target)
    print(f"  {one_line(target)}")


def _target(folder: str, path: str) -> str:
    return chart_path(folder, os.path.splitext(os.path.basename(path))[0], ".localization.png")


@torch.inference_mode()
def predict_face(trained: TrainedModel, path: str, device: torch.device) -> LabeledFace:
    """Return an image with its maps and probabilities.

    Raises
    ------
    DataError
        If the image cannot be read.
    """
    pixels = read_face(path)
    logits, maps = trained.model(normalize(torch.from_numpy(pixels[None]).to(device)))
    return LabeledFace(
        as_text(os.path.basename(path)), pixels, maps[0].cpu().numpy(), logits[0].sigmoid().cpu().numpy()
    )
