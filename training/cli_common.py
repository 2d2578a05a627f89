"""Exit codes, error messages and arguments that all commands share. Imports no library."""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

from regions.file_names import PATH_ERRORS
from regions.messages import one_line
from regions.system_libraries import library_problem

DONE, FAILED, UNUSABLE = 0, 1, 2

OUR_PACKAGES = ("training", "regions")
INSTALL = "pip install -c constraints.txt -e '.[training]'"
EPILOG = "exit codes: 0 done; 1 failed or interrupted; 2 bad arguments or unusable input"


class DataError(Exception):
    """Input or arguments that cannot be used; the message is one line for the user (exit code 2)."""


class TrainingError(Exception):
    """Work that failed or was interrupted; the message is one line for the user (exit code 1)."""


def run_command(name: str, work: Callable[[], None]) -> int:
    """Run the work of a command and return its exit code; expected errors become one line on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # paths that are not UTF-8
    try:
        work()
    except DataError as error:
        print(f"{name}: {one_line(str(error))}", file=sys.stderr)
        return UNUSABLE
    except (TrainingError, OSError, ImportError) as error:
        return _print_failure(name, error)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return FAILED
    return DONE


def _print_failure(name: str, error: TrainingError | OSError | ImportError) -> int:
    """Print an error in one line and return the exit code; an ImportError of our own code is raised again."""
    if isinstance(error, OSError) and error.errno in PATH_ERRORS and error.filename:
        print(f"{name}: {one_line(str(error.filename))}: {error.strerror}", file=sys.stderr)
        return UNUSABLE
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] not in OUR_PACKAGES:
        problem: str | None = f"{error.name} is not installed; it comes with the extra training: {INSTALL}"
    else:
        problem = None if isinstance(error, TrainingError) else library_problem(error)
    if problem is None and isinstance(error, ImportError):
        raise error
    print(f"{name}: failed: {one_line(problem or str(error))}", file=sys.stderr)
    return FAILED


def make_command_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with ``--version`` and the epilog of all commands."""
    parser = argparse.ArgumentParser(prog=name, description=description, epilog=EPILOG, allow_abbrev=False)
    version = f"%(prog)s {importlib.metadata.version('attparse')}"
    parser.add_argument("--version", action="version", version=version, help="print the version of attparse and exit")
    return parser


def set_config_defaults(parser: argparse.ArgumentParser, config: type[Any]) -> None:
    """Set the parser's defaults to those of a dataclass, so that each default is written once."""
    parser.set_defaults(
        **{field.name: field.default for field in fields(config) if field.default is not MISSING},
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: cuda where there is a GPU)")


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}, expected at least 1")
    return value


def not_negative(text: str) -> int:
    """Parse a whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}, expected at least 0")
    return value


def local_path(text: str) -> str:
    """Parse the name of a file or folder to write, which cannot be a URL."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text}, expected a path on this machine")
    return text
