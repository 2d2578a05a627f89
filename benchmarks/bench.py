"""What all parts of the benchmark share: the images, and how often each measurement is repeated."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from benchmarks.images import Photographs, link_images, run_arguments
from benchmarks.measure import command_cost
from pipeline.config import RunConfig


@dataclass(frozen=True)
class Bench:
    """The images of the benchmark, and how often each measurement is repeated.

    Attributes
    ----------
    photographs : Photographs
    count : int
        Number of images that are annotated; the photographs are repeated until there are so many.
    rounds : int
        Number of alternating runs of each measurement.
    scratch : Path
        A folder that is removed at the end.
    dlib_model : str or None
        Path of dlib's 68-point model.
    """

    photographs: Photographs
    count: int
    rounds: int
    scratch: Path
    dlib_model: str | None = None

    @functools.cached_property
    def data_set(self) -> RunConfig:
        """A run over the images, without an output folder; they are linked when it is first asked for."""
        return link_images(self.photographs.repeated(self.count), self.scratch / "data_set")

    @functools.cached_property
    def finished_run(self) -> Path:
        """The folder of a finished run over the images, which is made when it is first asked for."""
        output = self.scratch / "finished_run"
        command_cost(["pipeline", "run", *run_arguments(self.data_set), f"--output={output}", "--min_coverage=0"])
        return output
