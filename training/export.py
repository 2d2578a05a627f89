"""``attparse-export``: write a trained network as an ONNX file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from training.cli_common import local_path, make_command_parser, path, run_command
from training.config import ExportConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    config = ExportConfig(**vars(make_parser().parse_args(argv)))
    return run_command("attparse-export", lambda: _export(config))


def _export(config: ExportConfig) -> None:
    from training.onnx_export import export  # noqa: PLC0415 - torch takes seconds, which --help should not

    export(config)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``attparse-export``."""
    parser = make_command_parser(
        "attparse-export",
        "Write a network as ONNX. Input: pixels (batch, 218, 178, 3) uint8, RGB. Outputs: probabilities"
        " (batch, attributes) and maps (batch, attributes, 96, 76). The metadata holds the attribute names.",
    )
    parser.add_argument("--checkpoint", required=True, type=path, metavar="F", help="best.pt of a training")
    parser.add_argument("--output", required=True, type=local_path, metavar="F.onnx", help="ONNX file to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
