"""Words of messages that the pipeline and the trainer share."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number and its noun.

    >>> counted(1, "file"), counted(2000, "file")
    ('1 file', '2,000 files')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
