"""Exit codes, error messages and arguments that all commands share. Imports no library."""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, NoReturn

from regions.file_names import PATH_ERRORS
from regions.interrupts import termination_as_interrupt
from regions.messages import one_line, shown
from regions.system_libraries import library_problem

DONE, FAILED, UNUSABLE = 0, 1, 2

OUR_PACKAGES = ("training", "regions")
INSTALL = "pip install -c constraints.txt -e '.[training]'"
MAX_COUNT = 2**31 - 1
"""Largest number of epochs, steps, threads or samples."""
MAX_BATCH_SIZE = 2**16
"""Largest batch: 10 GB of images and masks."""
MAX_DIGITS = 20

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
        with termination_as_interrupt():
            work()
    except DataError as error:
        print(f"{name}: {one_line(str(error))}", file=sys.stderr)
        return UNUSABLE
    except (TrainingError, OSError, ImportError) as error:
        return _print_failure(name, error)
    except MemoryError:
        print(f"{name}: failed: out of memory; try a smaller --batch_size or smaller --channels", file=sys.stderr)
        return FAILED
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


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage of all options."""

    def error(self, message: str) -> NoReturn:
        self.exit(UNUSABLE, f"{self.prog}: error: {one_line(message)}\n")


def make_command_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with ``--version`` and the epilog of all commands."""
    parser = _Parser(prog=name, description=description, epilog=EPILOG, allow_abbrev=False)
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
    return whole_number(text, 1)


def not_negative(text: str) -> int:
    """Parse a whole number of at least 0."""
    return whole_number(text, 0)


def batch_size(text: str) -> int:
    """Parse a number of images per batch."""
    return whole_number(text, 1, MAX_BATCH_SIZE)


def whole_number(text: str, least: int, most: int = MAX_COUNT) -> int:
    """Parse a whole number in a range."""
    digits = text.strip()
    value = int(digits) if len(digits) < MAX_DIGITS and digits.removeprefix("-").isdecimal() else None
    if value is None or not least <= value <= most:
        raise argparse.ArgumentTypeError(f"found {shown(text)}, expected a whole number of {least} to {most}")
    return value


def path(text: str) -> str:
    """Parse the name of a file or folder, or a URL."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"found {shown(text)}, expected a path")
    return text


def local_path(text: str) -> str:
    """Parse the name of a file or folder to write, which cannot be a URL."""
    if "://" in text or not text.strip():
        raise argparse.ArgumentTypeError(f"found {shown(text)}, expected a path on this machine")
    return text
