"""Predict the attributes of face images and their maps, from the images alone."""

from __future__ import annotations

import os

import numpy as np
import torch

from regions.file_names import as_text
from training.checkpoint import TrainedModel, load_model
from training.cli_common import DataError
from training.config import PredictConfig
from training.devices import choose_device
from training.face_images import read_face
from training.plots import LabeledFace, draw_localization
from training.transforms import normalize

MAPS_SHOWN = 8


def predict(config: PredictConfig) -> None:
    """Print the attributes of each image and draw their maps.

    Raises
    ------
    DataError
        If the checkpoint or an image cannot be read, or two images would be drawn to the same file.
    """
    device = choose_device(config.device)
    trained = load_model(config.checkpoint, device)
    targets = [_target(config.output, path) for path in config.images]
    for path, target in zip(config.images, targets, strict=True):
        if targets.count(target) > 1:
            raise DataError(f"{path}: another image has the same name, and both would be drawn to {target}")
    for path, target in zip(config.images, targets, strict=True):
        face = predict_face(trained, path, device)
        print(path)
        for index in np.argsort(-face.probabilities, kind="stable"):
            if config.all or face.probabilities[index] > 0.5:
                print(f"  {trained.attributes[index]} {face.probabilities[index]:.3f}")
        surest = np.argsort(-face.probabilities, kind="stable")[:MAPS_SHOWN]
        shown = LabeledFace(face.title, face.pixels, face.maps[surest], face.probabilities[surest])
        draw_localization([shown], [trained.attributes[index] for index in surest], target)
        print(f"  {target}")


def _target(folder: str, path: str) -> str:
    return os.path.join(folder, os.path.splitext(os.path.basename(path))[0] + ".localization.png")


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
