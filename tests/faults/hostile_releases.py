"""Releases and runs of others, changed on purpose or at random: checked and joined, never believed."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import cli
from tests.faults.children import run_child
from tests.faults.mutation import mutated
from tests.faults.table import Tally
from tests.faults.workload import JOIN, RELEASE, RUN, TRAIN, World, check_end, files_of
from tests.releases import sign_again

TIMEOUT = 60.0
MEMORY = 1 << 29
"""Bytes that a command may take for a hostile file of a few kilobytes."""

VALUES: list[Any] = [
    "../../escaped", "/attparse_escaped", "a/../../../b", "", ".", "..", "\\..\\x", "gs://bucket/x", "\0", "\ud800",
    "x" * 5000, "train-000000", "|table| `x`", "-1", None, True, -1, 0, 1.5, 1e300, 2**31, 2**63, 10**30,
    [], {}, [[1]], {"a": {"b": 1}},
]  # fmt: skip
SHARD = "train-000000"


def _rename_shard(folder: Path, name: str) -> None:
    """Give a shard of a release another name everywhere, so that all fits together but the name itself."""
    path = folder / "release.json"
    document = json.loads(path.read_bytes())
    for shard in document["dataset"]["shards"]:
        if shard["name"] == SHARD:
            shard["name"] = name
    document["row_groups"][name] = document["row_groups"].pop(SHARD)
    document["files"][f"masks/{name}.tar"] = document["files"].pop(f"masks/{SHARD}.tar")
    target = folder / "masks" / f"{name}.tar"
    if not target.resolve().exists():
        target.resolve().parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "masks" / f"{SHARD}.tar", target.resolve())
    path.write_text(json.dumps(document))


def _change_rows(folder: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Change the rows of landmarks.parquet; their row groups stay."""
    path = folder / "landmarks.parquet"
    file = pq.ParquetFile(path)
    groups = [file.read_row_group(index) for index in range(file.num_row_groups)]
    rows = groups[0].to_pylist()
    change(rows)
    groups[0] = pa.Table.from_pylist(rows, schema=file.schema_arrow)
    with pq.ParquetWriter(path, file.schema_arrow) as writer:
        for group in groups:
            writer.write_table(group)


def _set_first(**values: Any) -> Callable[[Path], None]:
    return lambda folder: _change_rows(folder, lambda rows: rows[0].update(values))


def _set_point(value: float) -> Callable[[Path], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        points = rows[0]["landmarks"]
        rows[0]["landmarks"] = [[value, value]] * len(points) if isinstance(points[0], list) else [value] * len(points)

    return lambda folder: _change_rows(folder, change)


def _nested(folder: Path) -> None:
    (folder / "release.json").write_text('{"dataset": ' + "[" * 100_000 + "]" * 100_000 + "}")


def _without(field: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        document = json.loads((folder / "release.json").read_bytes())
        del document["dataset"][field]
        (folder / "release.json").write_text(json.dumps(document))

    return change


ATTACKS: dict[str, Callable[[Path], None]] = {
    "a shard named ../../escaped": lambda folder: _rename_shard(folder, "../../escaped"),
    "a key of ../../escaped": _set_first(key="../../escaped"),
    "landmarks of NaN": _set_point(float("nan")),
    "an absolute shard name": lambda folder: _rename_shard(folder, str(folder.parent / "escaped")),
    "a key of another image": lambda folder: _change_rows(folder, lambda rows: rows[0].update(key=rows[1]["key"])),
    "an image id of ../escaped.jpg": _set_first(image_id="../escaped.jpg"),
    "no image id": _set_first(image_id=None),
    "a key of 5,000 letters": _set_first(key="k" * 5000),
    "infinite landmarks": _set_point(float("inf")),
    "landmarks at 1e9": _set_point(1e9),
    "one row too few": lambda folder: _change_rows(folder, list.pop),
    "deep JSON": _nested,
    "no shards in release.json": _without("shards"),
    "no attributes in release.json": _without("attributes"),
}
"""Each makes a release that verify must not pass, though its hashes are right."""


class Result(NamedTuple):
    """How the commands took a folder.

    Attributes
    ----------
    verified, used : int
        Exit codes of ``attparse verify``, and of the command that uses the folder.
    """

    verified: int
    used: int


def meet_release(world: World, number: int, chance: random.Random, tally: Tally) -> None:
    """Change a release or a run, then verify and use it."""
    kind = number % 4
    folder = world.new_folder()
    source = folder / "source"
    name = RUN if kind == 3 else RELEASE
    shutil.copytree(world.undisturbed[name].output, source)
    if kind == 0:
        what = list(ATTACKS)[number // 4 % len(ATTACKS)]
        ATTACKS[what](source)
        _sign(source)
    elif kind == 1:
        what = f"release.json with {_change_json(source / 'release.json', chance)}"
        _sign(source)
    else:
        what = f"{name} with mutated {_change_file(source, chance)}"
        if kind == 2 and chance.random() < 0.7:
            _sign(source)
    tally.faults += 1
    result = _verify_and_use(
        world, source, folder, JOIN if name == RELEASE else chance.choice((TRAIN, RELEASE)), tally, what
    )
    if kind == 0:
        tally.check(result.verified != 0, "wrong exit", f"{what}: verify passes it")
    if result.used == 2:
        tally.check(result.verified != 0, "wrong exit", f"{what}: verify passes what cannot be used")


def _sign(folder: Path) -> None:
    """Let the hashes be those of the files, where release.json still has a place for them."""
    with contextlib.suppress(AttributeError, FileNotFoundError, KeyError, RecursionError, TypeError, ValueError):
        sign_again(folder)


def _change_json(path: Path, chance: random.Random) -> str:
    """Change one value of a JSON file, or one name; return what."""
    document = json.loads(path.read_bytes())
    at, where = document, ""
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = chance.choice(keys)
        where += f"/{key}"
        if not isinstance(at[key], (dict, list)) or not at[key] or chance.random() < 0.15:
            break
        at = at[key]
    value = chance.choice(VALUES)
    if isinstance(at, dict) and chance.random() < 0.2:
        at[str(value)] = at.pop(key)
        where += " renamed"
    elif chance.random() < 0.15:
        del at[key]
        where += " deleted"
    else:
        at[key] = value
    path.write_text(json.dumps(document))
    return f"{where}: {str(value)[:30]!r}"


def _change_file(folder: Path, chance: random.Random) -> str:
    """Change the bytes of one file; return its name."""
    path = chance.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    path.write_bytes(mutated(path.read_bytes(), chance))
    return path.relative_to(folder).as_posix()


def _verify_and_use(world: World, source: Path, folder: Path, command: str, tally: Tally, what: str) -> Result:
    """Verify a folder and give it to a command; whatever they find, nothing outside the output may change."""
    output = folder / "deep" / "deeper" / "output"
    output.parent.mkdir(parents=True)
    before = files_of(folder)
    verified = run_child(lambda: cli.main(["verify", str(source)]), timeout=TIMEOUT, memory=16 * MEMORY)
    check_end(tally, verified, {0, 1, 2}, f"{what}: verify")
    paths = {"release": source} if command == JOIN else {"run": source}
    used = run_child(world.command(command, output, **paths), timeout=TIMEOUT, memory=16 * MEMORY)
    check_end(tally, used, {0, 1, 2, 3}, f"{what}: {command}")
    for name, ended in (("verify", verified), (command, used)):
        tally.check(ended.peak < MEMORY, "crashes", f"{what}: {name} takes {ended.peak / 1e6:.0f} MB of memory")
    after = {name: sha for name, sha in files_of(folder).items() if not name.startswith("deep/deeper/output/")}
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed:
        tally.add("wrong bytes", f"{what}: {changed[0]} outside the output was written", len(changed))
    return Result(verified.code, used.code)
