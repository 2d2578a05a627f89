"""The command line: what --help loads, and the version."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from pipeline.building.runner import beam_options
from pipeline.cli import COMMANDS as COMMANDS_OF_CLI
from pipeline.cli import main
from pipeline.errors import InputError, ShardError

HEAVY = ("apache_beam", "cv2", "mediapipe", "numpy", "PIL", "pyarrow", "scipy", "shapely")
COMMANDS = (
    "",
    "run",
    "demo",
    "verify",
    "report",
    "preview",
    "handlabel",
    "handlabel export",
    "handlabel import",
    "release",
    "join",
)


def loaded_modules(statement: str) -> list[str]:
    """Return which heavy modules are loaded in a fresh interpreter after a statement."""
    program = f"import sys\ntry:\n    {statement}\nexcept SystemExit as end:\n    assert end.code == 0\n"
    program += f"print('loaded:', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].removeprefix("loaded:").split()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_no_heavy_module(command: str) -> None:
    """`--help` of every command needs neither Beam nor OpenCV nor pyarrow nor numpy."""
    assert loaded_modules(f"from pipeline.cli import main; main({[*command.split(), '--help']!r})") == []


def test_local_files_need_no_beam() -> None:
    """The formats of local files load without Beam."""
    assert "apache_beam" not in loaded_modules("import pipeline.formats.dataset_json")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_version(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the installed version, for the main parser and for every command."""
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"attparse {version('attparse')}\n"


RUN_OPTIONS = ("--images=i", "--labels=l", "--output=o")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--seed", "-1", "a whole number of at least 0"),
        ("--seed", "abc", "a whole number of at least 0"),
        ("--limit", "0", "a whole number of at least 1"),
        ("--samples_per_shard", "abc", "a whole number of at least 1"),
        ("--min_coverage", "1.5", "a number from 0 to 1"),
        ("--min_coverage", "nan", "a number from 0 to 1"),
        ("--min_coverage", "abc", "a number from 0 to 1"),
    ],
)
def test_a_number_out_of_range_is_refused(
    option: str, value: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line names the option, what was found and what was expected, not a function of the parser."""
    with pytest.raises(SystemExit) as end:
        main(["run", *RUN_OPTIONS, f"{option}={value}"])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: argument {option}: found {value!r}, expected {expected}\n")


@pytest.mark.parametrize(
    "option", ["--direct_num_workers=abc", "--direct_running_mode=magic", "--save_main_session=maybe"]
)
def test_a_wrong_value_of_a_beam_option_is_one_line(option: str) -> None:
    """Beam's own parser would print the usage of all its options."""
    name = option.partition("=")[0]
    with pytest.raises(InputError, match=f"argument {name}") as caught:
        beam_options([option])
    assert "\n" not in str(caught.value)


def test_a_damaged_shard_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A shard error that reaches the command line is unusable input."""

    def refuse(*_: object) -> int:
        raise ShardError("out/shards/train-000000.tar: damaged")

    monkeypatch.setitem(COMMANDS_OF_CLI, "report", refuse)
    assert main(["report", "out"]) == 2
    assert capsys.readouterr().err == "attparse: out/shards/train-000000.tar: damaged\n"
