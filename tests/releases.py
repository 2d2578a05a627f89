"""Helpers of the tests of releases: their files, their samples, and how to sign a changed release."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.formats.samples import StoredSample, read_samples


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def shards_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


def join(released: Path, sample: RunConfig, output: Path, *options: str) -> int:
    return main(["join", str(released), f"--images={sample.images}", f"--output={output}", *options])


def samples_of(run: Path) -> list[StoredSample]:
    document = json.loads((run / "dataset.json").read_text())
    return [sample for shard in document["shards"] for sample in read_samples(f"{run}/shards/{shard['name']}.tar")]


def sign_again(folder: Path) -> None:
    """Make the hashes in release.json and SHA256SUMS those of the files as they are."""
    document = json.loads((folder / "release.json").read_text())
    for name, entry in document["files"].items():
        content = (folder / name).read_bytes()
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (folder / "release.json").write_text(json.dumps(document))
    names = [name for name in files_of(folder) if name != "SHA256SUMS"]
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def error_line(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must refuse its arguments; return the line that it prints."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if re.match("attparse: [^ ]", line)]
    return line
