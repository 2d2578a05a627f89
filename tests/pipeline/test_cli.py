"""The command line: what --help loads, and the version."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from pipeline.cli import main

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
