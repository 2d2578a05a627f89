"""The errors that users see, each as one line, and the counts in their messages."""

from __future__ import annotations

from pipeline.vocabulary import RejectReason


class InputError(Exception):
    """Input or arguments that cannot be used; the message is one line for the user (exit code 2)."""


class RunError(Exception):
    """A run that failed for a reason outside the program; the message is one line (exit code 1)."""


class ShardError(Exception):
    """A shard that cannot be read; the message names the shard and the sample."""


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
    """An image that could not be read for a reason that may pass: it is no reject, its shard stays unbuilt."""


def counted(number: int, noun: str) -> str:
    """Return a number and its noun.

    >>> counted(1, "file"), counted(2000, "file")
    ('1 file', '2000 files')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
