"""``attparse-predict``: predict face attributes and draw where they are, from the images alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from training.cli_common import add_device, local_path, make_command_parser, path, run_command, set_config_defaults
from training.config import PredictConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    config = PredictConfig(**vars(make_parser().parse_args(argv)))
    return run_command("attparse-predict", lambda: _predict(config))


def _predict(config: PredictConfig) -> None:
    from training.prediction import predict  # noqa: PLC0415 - torch takes seconds, which --help should not

    predict(config)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``attparse-predict``."""
    parser = make_command_parser(
        "attparse-predict",
        "Predict face attributes and draw where they are. Images are resized as a whole: the face should fill them"
        " as in the training images.",
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image of a face")
    add("--checkpoint", required=True, type=path, metavar="F", help="best.pt of a training")
    add(
        "--output",
        type=local_path,
        metavar="DIR",
        help="folder for NAME.localization.png (default: the current folder)",
    )
    add("--all", action="store_true", help="print all attributes, not only those with a probability above 0.5")
    add_device(parser)
    set_config_defaults(parser, PredictConfig)
    return parser


if __name__ == "__main__":
    sys.exit(main())
