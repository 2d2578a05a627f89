"""Export a trained network to ONNX, verified against onnxruntime."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from torch import nn

from training.checkpoint import TrainedModel, load_model
from training.cli_common import TrainingError
from training.config import ExportConfig
from training.dataset_json import IMAGE_SIZE
from training.model import AttParseNet
from training.storage import create
from training.transforms import normalize

if TYPE_CHECKING:
    import onnxruntime

TOLERANCE = 1e-3
"""Largest difference of probabilities and maps that rounding can cause."""


class _FromPixels(nn.Module):
    """The network from decoded pixels to probabilities and maps."""

    def __init__(self, model: AttParseNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, maps = self.model(normalize(pixels))
        return logits.sigmoid(), maps


def export(config: ExportConfig) -> None:
    """Write the ONNX file if onnxruntime and torch compute the same.

    Raises
    ------
    DataError
        If the checkpoint cannot be read.
    TrainingError
        If the results differ; then nothing is written.
    """
    trained = load_model(config.checkpoint, torch.device("cpu"))
    content = _to_onnx(trained)
    difference = _largest_difference(trained.model, content)
    if not difference < TOLERANCE:
        raise TrainingError(f"onnxruntime differs from torch by {difference:.2g}, expected less than {TOLERANCE}")
    with create(config.output) as stream:
        stream.write(content)
    print(f"{config.output}: {len(content):,} bytes; onnxruntime differs from torch by at most {difference:.1g}")


def _to_onnx(trained: TrainedModel) -> bytes:
    pixels = torch.zeros((2, *IMAGE_SIZE, 3), dtype=torch.uint8)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter warns about its own code
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            _FromPixels(trained.model).eval(),
            (pixels,),
            dynamo=True,
            input_names=["pixels"],
            output_names=["probabilities", "maps"],
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}},
        )
    assert program is not None  # noqa: S101 # with dynamo=True and no file it returns the program
    model = program.model_proto
    onnx.helper.set_model_props(model, {"attributes": json.dumps(trained.attributes)})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """Return a network that runs on the CPU, in an onnxruntime that reports nothing to its makers.

    Its telemetry begins at the import, with an identifier of the machine that it writes to the home folder: only the
    environment prevents that.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # noqa: PLC0415 - after the line above

    onnxruntime.disable_telemetry_events()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def _largest_difference(model: AttParseNet, content: bytes) -> float:
    """Return the largest difference of probabilities or maps over a batch of another size than the exported one."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, *IMAGE_SIZE, 3), dtype=np.uint8)
    session = open_session(content)
    theirs = session.run(["probabilities", "maps"], {"pixels": pixels})
    with torch.inference_mode():
        ours = _FromPixels(model)(torch.from_numpy(pixels))
    return max(float(np.abs(one.numpy() - other).max()) for one, other in zip(ours, theirs, strict=True))
