"""``attparse-predict``: which attributes faces have, and where; from the images alone."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import numpy as np
import torch

from training.checkpoint import Trained, load_model
from training.cli_common import DataError, add_device, choose_device, local_path, make_command_parser, run_command
from training.face_images import read_face
from training.plots import Face, draw_localisation
from training.transforms import normalize

MAPS_SHOWN = 8


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = make_parser().parse_args(argv)
    return run_command("attparse-predict", lambda: predict(options))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``attparse-predict``."""
    parser = make_command_parser(
        "attparse-predict",
        "Tell the attributes of faces, and draw where they are. Images are resized whole: the face should fill them"
        " as it does those of the training.",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image of a face")
    parser.add_argument("--checkpoint", required=True, metavar="F", help="best.pt of a training")
    parser.add_argument(
        "--to", type=local_path, metavar="DIR", default=".", help="folder for NAME.localisation.png (default: this one)"
    )
    parser.add_argument("--all", action="store_true", help="print all attributes, not only those found")
    add_device(parser)
    return parser


def predict(options: argparse.Namespace) -> None:
    """Print the attributes of each image and draw their maps.

    Raises
    ------
    DataError
        If the checkpoint or an image can't be read, or two images would be drawn to the same file.
    """
    device = choose_device(options.device)
    trained = load_model(options.checkpoint, device)
    targets = [_target(options.to, path) for path in options.images]
    for path, target in zip(options.images, targets, strict=True):
        if targets.count(target) > 1:
            raise DataError(f"{path}: another image has the same name, both would be drawn to {target}")
    for path, target in zip(options.images, targets, strict=True):
        face = predict_face(trained, path, device)
        print(path)
        for index in np.argsort(-face.probabilities, kind="stable"):
            if options.all or face.probabilities[index] > 0.5:
                print(f"  {trained.attributes[index]} {face.probabilities[index]:.3f}")
        surest = np.argsort(-face.probabilities, kind="stable")[:MAPS_SHOWN]
        shown = Face(face.title, face.pixels, face.maps[surest], face.probabilities[surest])
        draw_localisation([shown], [trained.attributes[index] for index in surest], target)
        print(f"  {target}")


def _target(folder: str, path: str) -> str:
    return os.path.join(folder, os.path.splitext(os.path.basename(path))[0] + ".localisation.png")


@torch.inference_mode()
def predict_face(trained: Trained, path: str, device: torch.device) -> Face:
    """Return an image with its maps and probabilities.

    Raises
    ------
    DataError
        If the image can't be read.
    """
    pixels = read_face(path)
    logits, maps = trained.model(normalize(torch.from_numpy(pixels[None]).to(device)))
    return Face(os.path.basename(path), pixels, maps[0].cpu().numpy(), logits[0].sigmoid().cpu().numpy())


if __name__ == "__main__":
    sys.exit(main())
