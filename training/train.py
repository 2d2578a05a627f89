"""``attparse-train``: train AttParseNet on shards, in the paper's two stages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from regions.messages import shown
from training.cli_common import (
    add_device,
    batch_size,
    local_path,
    make_command_parser,
    not_negative,
    path,
    positive,
    run_command,
    set_config_defaults,
    whole_number,
)
from training.config import CHANNELS, MAX_CHANNELS, MAX_PADDING, MAX_SEED, TrainConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    config = parse_config(argv)
    return run_command("attparse-train", lambda: _train(config))


def _train(config: TrainConfig) -> None:
    from training.loop import train  # noqa: PLC0415 - torch takes seconds, which --help should not

    train(config)


def parse_config(argv: Sequence[str] | None) -> TrainConfig:
    """Parse the command line of ``attparse-train``; exits with code 2 if it is wrong."""
    parser = make_parser()
    config = TrainConfig(**vars(parser.parse_args(argv)))
    if not config.epochs_of(1) + config.epochs_of(2):
        parser.error("no epochs: --stage1_epochs and --stage2_epochs, or with --baseline --stage2_epochs, are 0")
    return config


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``attparse-train``."""
    parser = make_command_parser(
        "attparse-train",
        "Train AttParseNet on the shards of a run. Run the same command again to resume. For several GPUs: torchrun"
        " --nproc_per_node=N -m training.train ...",
    )
    add = parser.add_argument
    add("--data", required=True, type=path, metavar="OUT", help="folder of a run: local, http(s)://, gs:// or s3://")
    add("--output", required=True, type=local_path, metavar="RUN", help="folder for checkpoints, metrics and curves")
    _add_schedule(parser)
    _add_augmentation(parser)
    _add_network(parser)
    _add_loading(parser)
    set_config_defaults(parser, TrainConfig)
    return parser


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--baseline",
        action="store_true",
        help="train recognition alone, without masks and without stage 1 (for --crop none data)",
    )
    add(
        "--stage1_epochs",
        type=not_negative,
        metavar="N",
        help="number of epochs of stage 1, which minimizes MSE (default: %(default)s)",
    )
    add(
        "--stage2_epochs",
        type=not_negative,
        metavar="N",
        help="number of epochs of stage 2, which minimizes MSE and BCE (default: %(default)s)",
    )
    add("--batch_size", type=batch_size, metavar="N", help="batch size per process (default: %(default)s)")
    add("--lr", type=_above_zero, metavar="RATE", help="learning rate of Adam (default: %(default)s)")
    add("--mse_weight", type=_above_zero, metavar="W", help="factor of MSE in the loss (default: %(default)s)")
    add(
        "--early_stop",
        type=not_negative,
        metavar="N",
        help="end a stage once the validation loss has not fallen for N epochs while the training loss has"
        " (default: %(default)s, never)",
    )
    add(
        "--seed",
        type=_seed,
        metavar="N",
        help="random seed for weights, order and augmentation (default: %(default)s)",
    )
    add(
        "--deterministic",
        action="store_true",
        help="compute the same weights each time on the same machine (slower on a GPU)",
    )
    add("--checkpoint_steps", type=positive, metavar="N", help="save a checkpoint every N steps (default: %(default)s)")


def _add_augmentation(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--label_repair", action="store_true", help="set labels to 0 where the mask is empty")
    add("--flip", action="store_true", help="mirror half of the training images together with their masks")
    add(
        "--smallest_crop",
        type=_fraction,
        metavar="FRACTION",
        help="crop training images at random, to at least this fraction of height and width"
        " (default: %(default)s, no crops)",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    paper = ",".join(map(str, CHANNELS))
    add(
        "--channels",
        type=_channels,
        metavar="A,B,C,D,E",
        help=f"filters of the first five convolutions (default: {paper}, as in the paper)",
    )
    add("--no_batch_norm", dest="batch_norm", action="store_false", help="leave out BatchNorm")
    add(
        "--precision",
        choices=("bf16", "fp32"),
        help="number format of the convolutions (default: bf16 on a GPU that supports it, else fp32)",
    )
    add(
        "--pad_channels",
        type=_padding,
        metavar="N",
        help="round channels up to a multiple of N with filters that stay zero: the same function, in sizes that"
        " tensor cores need (default: 8 with bf16 on a GPU, else 1)",
    )
    add("--compile", action="store_true", help="use torch.compile")
    add_device(parser)


def _add_loading(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--workers",
        type=not_negative,
        metavar="N",
        help="threads per process that read and decode (default: one per core, at most 16 and one per shard)",
    )
    add(
        "--shuffle_buffer",
        type=positive,
        metavar="N",
        help="number of samples among which each of up to 16 streams of a process is shuffled (default: %(default)s)",
    )
    add("--skip_bad_samples", action="store_true", help="count samples that cannot be read, and continue")
    add("--verify_checksums", action="store_true", help="compare the shards with the checksums in dataset.json first")


def _above_zero(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"found {shown(text)}, expected a number of more than 0")
    return value


def _fraction(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"found {shown(text)}, expected a number of more than 0, at most 1")
    return value


def _number(text: str) -> float:
    """Parse a number; NaN, which is in no range, if it is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _seed(text: str) -> int:
    return whole_number(text, 0, MAX_SEED)


def _padding(text: str) -> int:
    return whole_number(text, 1, MAX_PADDING)


def _channels(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) != len(CHANNELS):
        raise argparse.ArgumentTypeError(f"found {shown(text)}, expected {len(CHANNELS)} numbers")
    return tuple(whole_number(part, 1, MAX_CHANNELS) for part in parts)


if __name__ == "__main__":
    sys.exit(main())
