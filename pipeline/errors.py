"""The errors that users see, each as one line, and the counts in their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.vocabulary import RejectReason


class InputError(Exception):
    """Input or arguments that cannot be used; the message is one line for the user (exit code 2)."""


class FileTooLargeError(OSError, InputError):
    """A file that would take too much memory; made of a number, a text and the path, as any OSError."""

    def __str__(self) -> str:
        """Return the message in one line."""
        return f"{self.filename}: {self.strerror}"


class RunError(Exception):
    """A run that failed for a reason outside the program; the message is one line (exit code 1)."""


class WorkerLostError(RunError):
    """A worker process that died: threads of Beam may wait for it without end, so they are not waited for."""


class ShardError(Exception):
    """A shard that cannot be read; the message names the shard and the sample."""


class ShardReadError(ShardError):
    """A shard whose file could not be read, for example because of a device error: whether it is intact is unknown.

    Parameters
    ----------
    path : str
    problem : str
        The error in one line.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.problem = problem


class ImageError(Exception):
    """An image that cannot be used.

    Parameters
    ----------
    reason : RejectReason
    detail : str
        What was found, and what was expected.
    """

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ReadError(Exception):
    """A file that could not be read for a reason that may pass: its shard stays unbuilt, no image is rejected."""
