"""``attparse-train``: train AttParseNet on shards, in the paper's two stages."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from training.cli_common import run_command
from training.config import TrainConfig, parse_config


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    config = parse_config(argv)
    return run_command("attparse-train", lambda: _train(config))


def _train(config: TrainConfig) -> None:
    from training.loop import train  # noqa: PLC0415 - torch takes seconds, which --help should not

    train(config)


if __name__ == "__main__":
    sys.exit(main())
