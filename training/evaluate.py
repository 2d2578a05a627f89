"""``attparse-evaluate``: evaluate attribute predictions, and draw where the networks locate attributes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from training.cli_common import (
    add_device,
    batch_size,
    local_path,
    make_command_parser,
    not_negative,
    path,
    run_command,
    set_config_defaults,
)
from training.config import EvaluateConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    config = EvaluateConfig(**vars(make_parser().parse_args(argv)))
    return run_command("attparse-evaluate", lambda: _evaluate(config))


def _evaluate(config: EvaluateConfig) -> None:
    from training.evaluation import evaluate  # noqa: PLC0415 - torch takes seconds, which --help should not

    evaluate(config)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``attparse-evaluate``."""
    parser = make_command_parser(
        "attparse-evaluate",
        "Evaluate attribute predictions on a split of a run, or on a folder of images with a label file."
        " Several checkpoints are compared side by side.",
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        required=True,
        type=path,
        action="append",
        metavar="F",
        help="best.pt of a training (can be repeated)",
    )
    add("--output", required=True, type=local_path, metavar="DIR", help="folder for metrics and charts")
    add(
        "--data",
        type=path,
        action="append",
        metavar="OUT",
        help="folder of a run; repeat it once per checkpoint, in the same order, or give one for all",
    )
    add("--split", choices=("train", "val", "test"), help="split of --data to evaluate (default: %(default)s)")
    add("--images", type=path, metavar="DIR", help="folder of face images to evaluate instead of --data")
    add(
        "--labels",
        type=path,
        metavar="FILE",
        help="label file of --images, in CelebA's layout or CSV; an empty cell, or 0 in a file with -1, is unknown",
    )
    add("--masks", action="store_true", help="also read the masks and compute the maps' IoU with them")
    add("--batch_size", type=batch_size, metavar="N", help="number of images per batch (default: %(default)s)")
    add(
        "--workers",
        type=not_negative,
        metavar="N",
        help="threads that read and decode --data (default: one per core, at most 16 and one per shard)",
    )
    add("--skip_bad_samples", action="store_true", help="count samples that cannot be read, and continue")
    add("--verify_checksums", action="store_true", help="compare the shards with the checksums in dataset.json first")
    add_device(parser)
    set_config_defaults(parser, EvaluateConfig)
    return parser


if __name__ == "__main__":
    sys.exit(main())
