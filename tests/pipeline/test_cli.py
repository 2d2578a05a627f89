"""The command line: what --help loads, and the version."""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline import cli, errors
from pipeline.building.output_folder import check_apart
from pipeline.building.runner import beam_options
from pipeline.cli import main
from pipeline.errors import InputError
from pipeline.parser import make_parser

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
        ("--min_coverage", "inf", "a number from 0 to 1"),
        ("--limit", "-1", "a whole number of at least 1"),
        ("--samples_per_shard", "0", "a whole number of at least 1"),
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


PATHS = {
    "run": "--images --labels --output --partition --bboxes --points --landmarks --landmarker --dlib_model"
    " --attribute_table",
    "demo": "--output",
    "verify": "",
    "report": "",
    "preview": "--output",
    "handlabel export": "--output --images",
    "handlabel import": "--output",
    "release": "--output",
    "join": "--images --output --labels",
}
"""The options of each command that are paths; all but run and demo also have a folder without an option's name."""


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("", "a path"),
        (" ", "a path"),
        ("gs://", "a bucket after ://"),
        ("s3:///folder", "a bucket after ://"),
    ],
)
def test_a_path_that_names_nothing_is_refused_in_one_line(
    found: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`gs://` would be a local folder of that name, and an empty path the working folder."""
    parser = make_parser()
    for command, options in PATHS.items():
        places = options.split() + ([] if command in ("run", "demo") else [""])
        for option in places:
            with pytest.raises(SystemExit) as end:
                parser.parse_args([*command.split(), *([f"{option}={found}"] if option else [found])])
            assert end.value.code == 2
            errors = capsys.readouterr().err
            assert errors.startswith(f"attparse {command}: error: argument {option}")
            assert errors.endswith(f": found {found!r}, expected {expected}\n")
            assert errors.count("\n") == 1


def test_every_path_of_every_command_is_checked() -> None:
    """A metavar in upper case or with a suffix is a path, except for numbers and texts."""
    commands: dict[str, argparse.ArgumentParser] = {}

    def collect(parser: argparse.ArgumentParser, name: str) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, below in action.choices.items():
                    collect(below, f"{name} {word}".strip())
        commands[name] = parser

    collect(make_parser(), "")
    no_paths = {"N", "FRACTION", "TEXT", "NAME", "NAMES", "URL", "COMMAND", "export|import", None}
    for name, parser in commands.items():
        for action in parser._actions:
            if action.metavar not in no_paths:
                assert getattr(action.type, "__name__", None) == "_path", (name, action.dest)


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["run"], ["run", *RUN_OPTIONS, "--crop=tight"], ["verify", "out", "--fast"], ["handlabel"]],
)
def test_arguments_that_are_refused_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The usage of some thirty options would hide it."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("attparse")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("number", ["-1", "-16"])
def test_a_negative_number_of_workers_is_refused(number: str) -> None:
    """Beam would end with `list index out of range`."""
    with pytest.raises(InputError, match=f"^argument --direct_num_workers: found {number}, expected"):
        beam_options([f"--direct_num_workers={number}"])


def test_no_number_of_workers_is_all_cores() -> None:
    """Beam's own meaning of 0."""
    assert beam_options(["--direct_num_workers=0"]).get_all_options()["direct_num_workers"] == 0


@pytest.mark.parametrize(
    ("images", "output"),
    [("data", "data"), ("data", "data/out"), ("data", "link/out"), ("gs://b/data", "gs://b/data/out")],
)
def test_an_output_inside_the_images_is_refused(images: str, output: str, tmp_path: Path) -> None:
    """Its crops would be images of the next run."""
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    here = [path if "://" in path else str(tmp_path / path) for path in (images, output)]
    with pytest.raises(InputError, match=f"^--output {here[1]}: is in --images {here[0]}, expected a folder apart"):
        check_apart(*here)


@pytest.mark.parametrize("folder", ["shards", "manifest", "plan/images"])
def test_images_where_the_output_has_its_own_files_are_refused(folder: str) -> None:
    """The sample of `attparse demo` lies elsewhere in the output, which harms nothing."""
    with pytest.raises(InputError, match=f"^--images out/{folder}: is in out/{folder.partition('/')[0]}, which is"):
        check_apart(f"out/{folder}", "out")
    check_apart("out/sample/images", "out")
    check_apart("images", "images_out")


def test_a_demo_that_cannot_write_is_unusable_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is for every other command."""
    pytest.importorskip("skimage")
    (tmp_path / "file").touch()
    assert main(["demo", f"--output={tmp_path / 'file'}"]) == 2
    assert capsys.readouterr().err == f"attparse: {tmp_path}/file/sample/images: can't write here: Not a directory\n"


@pytest.mark.parametrize(
    "option", ["--direct_num_workers=abc", "--direct_running_mode=magic", "--save_main_session=maybe"]
)
def test_a_wrong_value_of_a_beam_option_is_one_line(option: str) -> None:
    """Beam's own parser would print the usage of all its options."""
    name = option.partition("=")[0]
    with pytest.raises(InputError, match=f"argument {name}") as caught:
        beam_options([option])
    assert "\n" not in str(caught.value)


ENDS = {
    errors.InputError("l.csv:3: 'x', expected 0 or 1"): (2, "l.csv:3: 'x', expected 0 or 1"),
    errors.FileTooLargeError(errno.EFBIG, "more than 9 bytes", "l.csv"): (2, "l.csv: more than 9 bytes"),
    errors.ShardError("out/shards/train-000000.tar: damaged"): (2, "out/shards/train-000000.tar: damaged"),
    errors.ShardReadError("t.tar", "Input/output error"): (2, "t.tar: Input/output error"),
    errors.ImageError("empty", "file of 0 bytes"): (2, "empty: file of 0 bytes"),
    errors.RunError("the pipeline\nended"): (1, "failed: the pipeline\\nended"),
    errors.WorkerLostError("a worker process died"): (1, "failed: a worker process died"),
    errors.ReadError("landmarks.parquet: Too many open files"): (1, "failed: landmarks.parquet: Too many open files"),
}
"""An error of each kind, and the exit code and the line with which a command ends."""


@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
def test_every_error_of_ours_ends_a_command_in_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """None is a traceback, whichever part of a command it escapes from."""

    def refuse(*_: object) -> int:
        raise error

    monkeypatch.setitem(cli.COMMANDS, "report", refuse)
    monkeypatch.setattr(os, "_exit", sys.exit)
    try:
        code = main(["report", "out"])
    except SystemExit as end:
        code = int(str(end.code))
    assert (code, capsys.readouterr().err) == (ENDS[error][0], f"attparse: {ENDS[error][1]}\n")


def test_no_error_of_ours_is_left_out() -> None:
    ours = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert set(map(type, ENDS)) == ours
