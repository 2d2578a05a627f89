"""The options of the commands as frozen dataclasses, with their defaults. Imports no library."""

from __future__ import annotations

from dataclasses import dataclass, fields

CHANNELS = (75, 200, 300, 512, 512)
"""Filters of the first five convolutions in the paper."""

MAX_CHANNELS = 4096
"""Largest number of filters of a convolution, rounded up: five of these take 2.4 GB of weights."""
MAX_PADDING = 256
"""Largest multiple to which channels are rounded up."""
MAX_SEED = 2**63 - 1
"""Largest random seed that torch accepts."""

MAY_DIFFER_ON_RESUME = {
    "data",
    "output",
    "device",
    "workers",
    "checkpoint_steps",
    "skip_bad_samples",
    "verify_checksums",
}
"""Options that decide where and how a training runs, not what it computes."""


@dataclass(frozen=True)
class TrainConfig:
    """The options of ``attparse-train``; see ``attparse-train --help`` for each."""

    data: str
    output: str
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
    shuffle_buffer: int = 1000
    checkpoint_steps: int = 1000
    skip_bad_samples: bool = False
    verify_checksums: bool = False

    def epochs_of(self, stage: int) -> int:
        """Return the number of epochs of stage 1 or 2; the baseline has no stage 1."""
        if stage == 1:
            return 0 if self.baseline else self.stage1_epochs
        return self.stage2_epochs

    def decisive_options(self) -> dict[str, object]:
        """Return the options that must be the same when a training resumes, as plain values."""
        names = [field.name for field in fields(self) if field.name not in MAY_DIFFER_ON_RESUME]
        return {**{name: getattr(self, name) for name in names}, "channels": list(self.channels)}


@dataclass(frozen=True)
class EvaluateConfig:
    """The options of ``attparse-evaluate``; see ``attparse-evaluate --help`` for each."""

    checkpoint: list[str]
    output: str
    data: list[str] | None = None
    split: str = "test"
    images: str | None = None
    labels: str | None = None
    masks: bool = False
    batch_size: int = 64
    workers: int | None = None
    skip_bad_samples: bool = False
    verify_checksums: bool = False
    device: str | None = None


@dataclass(frozen=True)
class PredictConfig:
    """The options of ``attparse-predict``; see ``attparse-predict --help`` for each."""

    images: list[str]
    checkpoint: str
    output: str = "."
    all: bool = False
    device: str | None = None


@dataclass(frozen=True)
class ExportConfig:
    """The options of ``attparse-export``; see ``attparse-export --help`` for each."""

    checkpoint: str
    output: str
