"""The work that is disturbed: a small data set, its run, release, join and training, and their undisturbed results."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from pipeline import cli
from tests.faults.children import Ended, run_child
from tests.faults.data import IMAGE_IDS, Data, write_data
from tests.faults.injection import Count, end_at_change
from tests.faults.table import Tally
from training import train

EPOCHS = 3

LATE_IMPORTS = (
    *("pipeline.building.run", "pipeline.release.join", "pipeline.release.release", "pipeline.release.verify_release"),
    *("training.loop", "matplotlib.pyplot", "torch._dynamo"),
)
"""What commands import when they need it, and what takes longest."""

RUN, JOIN, RELEASE, TRAIN = "run", "join", "release", "train"
Command = Callable[[], int]


@dataclass(frozen=True)
class Undisturbed:
    """The result of a command that nothing disturbed.

    Attributes
    ----------
    output : Path
    files : dict of str to str
        Hashes of its files by name.
    seconds : float
        How long it took.
    changes : int
        How many changes of files it made.
    """

    output: Path
    files: dict[str, str]
    seconds: float
    changes: int


class World(Data):
    """The data set, and what the commands make of it undisturbed.

    Parameters
    ----------
    folder : Path
        An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        write_data(self)
        self.undisturbed: dict[str, Undisturbed] = {}
        _import_all(LATE_IMPORTS)
        for name in (RUN, RELEASE, JOIN, TRAIN):
            self.undisturbed[name] = self._make(name)

    def _make(self, name: str) -> Undisturbed:
        output, count = self.undisturbed_output(name), Count()
        command = self.command(name, output)

        def counting() -> int:
            end_at_change(str(output), 0, count)
            code = command()
            modules.write_text("\n".join(sys.modules))
            return code

        modules = self.folder / "modules.txt"
        ended = run_child(counting)
        if ended.code != 0:
            raise RuntimeError(f"{name} fails undisturbed:\n{ended.text}")
        _import_all(modules.read_text().splitlines())
        return Undisturbed(output, files_of(output), ended.seconds, count.value)

    def new_folder(self) -> Path:
        """Return a path for the files of a case, where nothing is."""
        folder = self.folder / f"case_{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def command(self, name: str, output: Path, **paths: Path) -> Command:
        """Return a command as a function; `paths` take the place of its inputs."""
        argv = self.argv(name, output, **paths)
        return lambda: train.main(argv) if name == TRAIN else cli.main(argv)

    def argv(self, name: str, output: Path, **paths: Path) -> list[str]:
        """Return the arguments of a command; `paths` take the place of its inputs."""

        def path(kind: str, default: Path) -> str:
            return str(paths.get(kind, default))

        images, beam = path("images", self.images), ["--direct_num_workers=1", "--min_coverage=0"]
        if name == RUN:
            kinds = ("labels", "landmarks", "partition")
            texts = [f"--{kind}={path(kind, getattr(self, kind))}" for kind in kinds]
            table = f"--attribute_table={path('table', self.table)}"
            return [RUN, f"--images={images}", f"--output={output}", *texts, table, "--samples_per_shard=4", *beam]
        if name == RELEASE:
            return [RELEASE, path("run", self.undisturbed_output(RUN)), f"--output={output}"]
        if name == JOIN:
            released = path("release", self.undisturbed_output(RELEASE))
            return [JOIN, released, f"--images={images}", f"--output={output}", *beam]
        data = path("run", self.undisturbed_output(RUN))
        schedule = ["--stage1_epochs=1", f"--stage2_epochs={EPOCHS - 1}", "--batch_size=4", "--checkpoint_steps=2"]
        network = ["--channels=4,4,4,4,4", "--device=cpu", "--workers=0", "--deterministic"]
        return [f"--data={data}", f"--output={output}", *schedule, *network]

    def check_result(self, name: str, output: Path, tally: Tally, what: str) -> None:
        """Compare a finished output with the undisturbed one, and count its images or epochs."""
        expected = self.undisturbed[name].files
        found = files_of(output)
        for file in sorted(found.keys() - expected.keys()):
            is_temporary = file.endswith(".tmp")
            tally.add("left over" if is_temporary else "wrong bytes", f"{what}: {file} is there, but not undisturbed")
        absent = sorted(expected.keys() - found.keys())
        if absent:
            tally.add("lost", f"{what}: {', '.join(absent[:3])} not there", len(absent))
        different = sorted(file for file in expected.keys() & found.keys() if expected[file] != found[file])
        if different:
            tally.add("wrong bytes", f"{what}: {', '.join(different[:3])} with other bytes", len(different))
        if name in (RUN, JOIN) and not absent:
            count_images(output, IMAGE_IDS if name == RUN else None, tally, what)
        if name == TRAIN and not absent:
            _count_epochs(output, tally, what)


def _import_all(names: Sequence[str]) -> None:
    """Import what children need, so that they are born with it."""
    for name in names:
        if name != "__main__" and name not in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def files_of(folder: Path) -> dict[str, str]:
    """Return the hashes of the files below a folder; those of a training without what differs each time."""
    return {
        path.relative_to(folder).as_posix(): _hash_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".png"
    }


def _hash_of(path: Path) -> str:
    if path.suffix == ".pt":
        content = repr(_plain(torch.load(path, weights_only=True))).encode()
    elif path.name in ("metrics.jsonl", "log.txt"):
        content = b"times"
    else:
        content = path.read_bytes()
    return hashlib.sha256(content).hexdigest()


def _plain(value: Any) -> Any:
    """Return the content of a checkpoint with hashes for tensors, without the times of its epochs."""
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest(), tuple(value.shape)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if key not in ("seconds", "images_per_second")}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def count_images(
    output: Path,
    expected: frozenset[str] | None,
    tally: Tally,
    what: str,
    may_be_there: frozenset[str] = frozenset(),
) -> None:
    """Compare the images of a run with those that went in: each is written or rejected, once."""
    images: Counter[str] = Counter()
    written: Counter[str] = Counter()
    samples: Counter[str] = Counter()
    for path in sorted((output / "manifest").glob("*.parquet")):
        table = pq.read_table(path, columns=["image_id", "key", "status"]).to_pylist()
        images.update(row["image_id"] for row in table)
        written.update(row["key"] for row in table if row["status"] == "written")
    for path in sorted((output / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            samples.update({name.partition(".")[0] for name in tar.getnames()})
    lost = (set(expected or images) - set(images)) | (set(written) - set(samples))
    doubled = [name for counts in (images, samples) for name, count in counts.items() if count > 1]
    unexpected = set(images) - (expected or set(images)) - may_be_there
    if unexpected:
        tally.add("wrong bytes", f"{what}: {', '.join(sorted(unexpected)[:3])} did not go in", len(unexpected))
    if lost:
        tally.add("lost", f"{what}: {', '.join(sorted(lost)[:3])}", len(lost))
    if doubled:
        tally.add("doubled", f"{what}: {', '.join(sorted(doubled)[:3])}", len(doubled))


def _count_epochs(output: Path, tally: Tally, what: str) -> None:
    history = torch.load(output / "last.pt", weights_only=True)["history"]
    epochs = Counter(record["epoch"] for record in history)
    lost = set(range(EPOCHS)) - set(epochs)
    if lost:
        tally.add("lost", f"{what}: epochs {sorted(lost)}", len(lost))
    if len(history) > len(epochs):
        tally.add("doubled", f"{what}: epochs {sorted(epochs.elements())}", len(history) - len(epochs))


def check_end(tally: Tally, ended: Ended, codes: set[int], what: str) -> bool:
    """Record a crash, a process that stays, or an exit code other than those given; return whether all is well."""
    if ended.crashed:
        tally.add("crashes", f"{what}: {ended.crashed}")
    elif ended.code not in codes:
        tally.add("wrong exit", f"{what}: exit code {ended.code}, expected {sorted(codes)}: {ended.text[-300:]!r}")
    tally.check(not ended.orphans, "left over", f"{what}: processes outlived it")
    return not ended.crashed and ended.code in codes and not ended.orphans


def json_of(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_bytes())


def tar_of(members: dict[str, bytes]) -> bytes:
    """Return a tar file of these members."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()
