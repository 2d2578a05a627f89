"""The short form of the fault campaign, and that the campaign notices what it is there to notice."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults import children
from tests.faults.__main__ import CAMPAIGNS, divide
from tests.faults.children import Shot, run_child
from tests.faults.injection import FOR_GOOD, Count, FileFault, end_at_change, fail_files
from tests.faults.table import Tally, describe_problems, render

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_short_form_finds_nothing() -> None:
    command = [sys.executable, "-m", "tests.faults", "--short"]
    ended = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=500)
    assert ended.returncode == 0, ended.stdout
    sums = next(line.split() for line in ended.stdout.splitlines() if line.startswith("all "))
    assert int(sums[2].replace(",", "")) > 1000
    assert sums[3:9] == ["0"] * 6


def test_problems_stand_in_the_table_with_the_command_that_repeats_them() -> None:
    tally = Tally("kills", case=7, cases=8, faults=9)
    tally.add("lost", "run, SIGKILL: a.jpg, b.jpg", 2)
    lines = render([tally, Tally("limits", note="only so many")]).splitlines()
    assert lines[1].split()[:5] == ["kills", "8", "9", "2", "0"]
    assert lines[3].split()[:5] == ["all", "8", "9", "2", "0"]
    assert lines[4] == "limits: only so many"
    assert "--seed 3 --only kills --case 7" in describe_problems([tally], 3)


def test_a_child_that_hangs_or_crashes_is_seen() -> None:
    assert "no end after" in run_child(lambda: _sleep(60), timeout=0.2).crashed
    assert "SIGUSR1" in run_child(_end_by_signal).crashed
    assert "ZeroDivisionError" in run_child(lambda: 1 // 0).crashed
    assert run_child(lambda: 3).code == 3
    assert run_child(lambda: _sleep(60), shot=Shot(signal.SIGTERM, 0.1)).code == -signal.SIGTERM


def test_a_process_that_outlives_its_parent_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "GRACE", 0.2)

    def leave_a_process() -> int:
        if os.fork() == 0:
            time.sleep(60)
        return 0

    def look_for_it() -> int:
        children.adopt_orphans()
        return int(run_child(leave_a_process).orphans)

    assert run_child(look_for_it).code == 1


def test_campaigns_are_divided_among_lanes() -> None:
    lanes = divide(list(CAMPAIGNS))
    assert sorted(name for lane in lanes for name in lane) == sorted(CAMPAIGNS)
    assert all(lanes)


def _end_by_signal() -> int:
    os.kill(os.getpid(), signal.SIGUSR1)
    return 0


def _sleep(seconds: float) -> int:
    time.sleep(seconds)
    return 0


def test_a_process_ends_itself_just_before_a_change_of_files(tmp_path: Path) -> None:
    def write_two() -> int:
        end_at_change(str(tmp_path), 3, Count())
        (tmp_path / "a").write_text("a")
        os.replace(tmp_path / "a", str(tmp_path / "b"))
        return 0

    assert run_child(write_two).code == 0

    def write_three() -> int:
        end_at_change(str(tmp_path), 2, Count())
        for name in "cde":
            (tmp_path / name).write_text(name)
        return 0

    assert run_child(write_three).code == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]


@pytest.mark.parametrize("operation", ["open", "read"])
def test_files_fail_so_many_times(tmp_path: Path, operation: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"content")

    def read_four_times() -> int:
        fail_files(FileFault("a.jpg", operation, errno.EIO, skipped=1, times=1), Count())  # type: ignore[arg-type]
        code = 0
        for bit in range(4):
            with contextlib.suppress(OSError), open(tmp_path / "a.jpg", "rb", buffering=0) as stream:
                code |= (stream.read(7) == b"content") << bit
        return code

    assert run_child(read_four_times).code == 0b1101


def test_a_full_disk_stays_full(tmp_path: Path) -> None:
    def write() -> int:
        fail_files(FileFault(str(tmp_path), "write", errno.ENOSPC, times=FOR_GOOD), Count())
        codes = set()
        for name in "ab":
            try:
                (tmp_path / name).write_bytes(b"content")
            except OSError as error:
                codes.add(error.errno)
        return int(codes == {errno.ENOSPC})

    assert run_child(write).code == 1
