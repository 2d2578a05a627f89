"""The options of a training, as one value made once from the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from training.cli_common import DataError, add_device, local_path, make_command_parser, not_negative, positive
from training.model import CHANNELS

NOT_COMPARED = {"data", "to", "device", "checkpoint_steps", "skip_bad_samples", "verify_checksums"}
"""Options that may differ when a training is resumed."""


@dataclass(frozen=True)
class TrainConfig:
    """What ``attparse-train`` was asked to do; see ``attparse-train --help`` for each option."""

    data: str
    to: str
    baseline: bool = False
    stage1_epochs: int = 10
    stage2_epochs: int = 22
    batch_size: int = 64
    lr: float = 1e-3
    mse_weight: float = 1.0
    early_stop: int = 0
    label_repair: bool = False
    flip: bool = False
    smallest_crop: float = 1.0
    channels: tuple[int, ...] = CHANNELS
    batch_norm: bool = True
    seed: int = 0
    deterministic: bool = False
    precision: str | None = None
    pad_channels: int | None = None
    compile: bool = False
    device: str | None = None
    workers: int | None = None
    shuffle_buffer: int = 2000
    checkpoint_steps: int = 1000
    skip_bad_samples: bool = False
    verify_checksums: bool = False

    def epochs_of(self, stage: int) -> int:
        """Return the number of epochs of stage 1 or 2; the baseline has no stage 1."""
        if stage == 1:
            return 0 if self.baseline else self.stage1_epochs
        return self.stage2_epochs

    def compared(self) -> dict[str, object]:
        """Return the options that must be the same when a training is resumed, as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in NOT_COMPARED}
        return {**values, "channels": list(self.channels)}


def parse_config(argv: Sequence[str] | None) -> TrainConfig:
    """Parse the command line of ``attparse-train``; exits with code 2 where it is wrong."""
    parser = make_parser()
    config = TrainConfig(**vars(parser.parse_args(argv)))
    if not config.epochs_of(1) + config.epochs_of(2):
        parser.error("no epochs: --stage1_epochs and --stage2_epochs, or with --baseline --stage2_epochs, are 0")
    return config


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``attparse-train``."""
    parser = make_command_parser(
        "attparse-train",
        "Train AttParseNet from the shards of a run. Run the same command again to resume. For several GPUs: torchrun"
        " --nproc_per_node=N -m training.train ...",
    )
    add = parser.add_argument
    add("--data", required=True, metavar="OUT", help="folder of a run: local, http(s)://, gs:// or s3://")
    add("--to", required=True, type=local_path, metavar="RUN", help="folder for checkpoints, metrics and curves")
    add("--baseline", action="store_true", help="no masks, no stage 1: recognition alone (meant for --crop none data)")
    add("--stage1_epochs", type=not_negative, metavar="N", default=10, help="with MSE alone (default: 10)")
    add("--stage2_epochs", type=not_negative, metavar="N", default=22, help="with MSE and BCE (default: 22)")
    add("--batch_size", type=positive, metavar="N", default=64, help="of each process (default: 64)")
    add("--lr", type=_above_zero, metavar="RATE", default=1e-3, help="of Adam (default: 0.001)")
    add("--mse_weight", type=_above_zero, metavar="W", default=1.0, help="MSE counts this many times (default: 1)")
    add(
        "--early_stop",
        type=not_negative,
        metavar="N",
        default=0,
        help="end a stage once the validation loss has not fallen for N epochs while the training loss has"
        " (default: 0, never)",
    )
    add("--label_repair", action="store_true", help="set labels to 0 whose mask is empty")
    add("--flip", action="store_true", help="mirror half of the training images, and their masks")
    add(
        "--smallest_crop",
        type=_share,
        metavar="SHARE",
        default=1.0,
        help="crop training images at random, to no less than this share of height and width (default: 1, no crops)",
    )
    add(
        "--channels",
        type=_channels,
        metavar="A,B,C,D,E",
        default=CHANNELS,
        help="filters of the first five convolutions (default: the paper's 75,200,300,512,512)",
    )
    add("--no_batch_norm", dest="batch_norm", action="store_false", help="leave out BatchNorm")
    add("--seed", type=not_negative, metavar="N", default=0, help="of weights, order and augmentation (default: 0)")
    add("--deterministic", action="store_true", help="the same weights each time on the same machine, slower on a GPU")
    add("--precision", choices=("bf16", "fp32"), help="default: bf16 on a GPU that has it, else fp32")
    add(
        "--pad_channels",
        type=positive,
        metavar="N",
        help="round channels up to a multiple of N, with filters that stay zero: the same function, in the sizes that"
        " tensor cores need (default: 8 with bf16 on a GPU, else 1)",
    )
    add("--compile", action="store_true", help="use torch.compile")
    add_device(parser)
    add(
        "--workers",
        type=not_negative,
        metavar="N",
        help="threads that read and decode, for each process (default: one per core; at most one per shard)",
    )
    add("--shuffle_buffer", type=positive, metavar="N", default=2000, help="samples per worker (default: 2000)")
    add("--checkpoint_steps", type=positive, metavar="N", default=1000, help="steps between two (default: 1000)")
    add("--skip_bad_samples", action="store_true", help="count samples that can't be read, and go on")
    add("--verify_checksums", action="store_true", help="compare the shards with dataset.json first")
    return parser


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}, expected more than 0")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text}, expected more than 0, at most 1")
    return value


def _channels(text: str) -> tuple[int, ...]:
    channels = tuple(positive(part) for part in text.split(","))
    if len(channels) != len(CHANNELS):
        raise argparse.ArgumentTypeError(f"{text}, expected {len(CHANNELS)} numbers")
    return channels


def choose_precision(name: str | None, device: torch.device) -> torch.dtype:
    """Return the type in which convolutions are computed.

    Raises
    ------
    DataError
        If bf16 is asked for on a GPU that hasn't got it.
    """
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "bf16" and device.type == "cuda" and not has_bf16:
        raise DataError(f"--precision bf16: {torch.cuda.get_device_name(device)} has no bf16")
    return torch.bfloat16 if name == "bf16" or (name is None and has_bf16) else torch.float32


def choose_padding(multiple: int | None, device: torch.device, dtype: torch.dtype) -> int:
    """Return of what number the channels are to be a multiple."""
    return multiple or (8 if device.type == "cuda" and dtype == torch.bfloat16 else 1)
