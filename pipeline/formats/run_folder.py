"""The folder of a run: the place of every file in it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline import storage

SHARDS, MANIFEST, PLAN = "shards", "manifest", "plan"
SHARD_SUFFIX, MANIFEST_SUFFIX, PLAN_SUFFIX = ".tar", ".parquet", ".npz"
DATASET_FILE, REPORT_FILE = "dataset.json", "report.html"


@dataclass(frozen=True)
class RunFolder:
    """The folder that a run writes.

    Attributes
    ----------
    path : str
        Local or remote.
    """

    path: str

    @property
    def dataset_json(self) -> str:
        """The contract for readers, written last."""
        return storage.join(self.path, DATASET_FILE)

    @property
    def report(self) -> str:
        """The HTML report."""
        return storage.join(self.path, REPORT_FILE)

    @property
    def shards(self) -> str:
        """The folder of the tar files."""
        return storage.join(self.path, SHARDS)

    @property
    def manifests(self) -> str:
        """The folder of the manifests."""
        return storage.join(self.path, MANIFEST)

    @property
    def plans(self) -> str:
        """The folder of the plans, which exists while a run is under way."""
        return storage.join(self.path, PLAN)

    def shard(self, name: str) -> str:
        """Return the path of the tar file of a shard such as ``train-000000``."""
        return storage.join(self.path, SHARDS, name + SHARD_SUFFIX)

    def manifest(self, name: str) -> str:
        """Return the path of the manifest of a shard, the record that the shard is complete."""
        return storage.join(self.path, MANIFEST, name + MANIFEST_SUFFIX)

    def plan(self, name: str) -> str:
        """Return the path of the plan of a shard."""
        return storage.join(self.path, PLAN, name + PLAN_SUFFIX)
