"""Importing Beam: for a run on this machine without the libraries of its optional parts, most of what it loads."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable

from pipeline.imports import absent

OPTIONAL = (
    "IPython", "apitools", "azure", "boto3", "bson", "google.api_core", "google.auth", "google.cloud", "hdfs",
    "opentelemetry", "pandas", "pymongo", "requests",
)  # fmt: skip
"""What Beam does without where it is not installed: object stores, Dataflow, databases, data frames, notebooks."""
INCOMPLETE = ("apache_beam.io.gcp", "apache_beam.runners.dataflow.internal.clients.dataflow")
"""Packages of Beam that are loaded without their optional libraries, and then lack something."""
FILE_SYSTEMS = (
    "apache_beam.io.gcp.gcsfilesystem", "apache_beam.io.aws.s3filesystem",
    "apache_beam.io.azure.blobstoragefilesystem", "apache_beam.io.hadoopfilesystem",
)  # fmt: skip
"""Modules of Beam that register a file system as they are loaded."""

_incomplete: list[str] = []


def is_local(beam_options: Iterable[str], values: Iterable[object]) -> bool:
    """Return whether a run needs nothing but this machine: Beam's local runner, and no path of an object store.

    >>> is_local(["--direct_num_workers=2"], ["/data/images", ("a.csv", "b.csv")])
    True
    >>> is_local([], ["/data/images", ("a.csv", "gs://bucket/b.csv")])
    False
    >>> is_local(["--runner", "DataflowRunner"], [])
    False
    """
    flags = list(beam_options)
    return not any(flag.startswith("--runner") for flag in flags) and "://" not in repr([flags, *values])


def import_local_beam() -> None:
    """Import what a run on this machine needs of Beam, in a third of the time; a Beam that is loaded stays as it is."""
    if "apache_beam" in sys.modules:
        return
    _incomplete.extend(INCOMPLETE)
    with absent(*OPTIONAL):
        import apache_beam.runners.portability.fn_api_runner  # noqa: F401, PLC0415
        import pyarrow  # noqa: PLC0415

        pyarrow.array([0])  # looks for pandas, which takes as long to load as Beam itself, and never looks again


def import_whole_beam() -> None:
    """Import all of Beam that is installed, also where a former run of this process has done with less."""
    import apache_beam  # noqa: F401, PLC0415

    while _incomplete:
        importlib.reload(importlib.import_module(_incomplete.pop()))
        for module in FILE_SYSTEMS:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
