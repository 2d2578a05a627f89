"""Words of messages that the pipeline and the trainer share."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number and its noun.

    >>> counted(1, "file"), counted(2000, "file")
    ('1 file', '2,000 files')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shown(value: object, limit: int = 80) -> str:
    r"""Return a value for a message: as Python writes it, so in one line, and shortened.

    >>> shown("a\nb"), shown("x" * 9, limit=5)
    ("'a\\nb'", "'xxxx...")
    """
    text = repr(value[: limit + 1] if isinstance(value, str) else value)
    return text if len(text) <= limit else text[:limit] + "..."


def one_line(message: str, limit: int = 2000) -> str:
    r"""Return a message in one line, with escapes in place of what a terminal would act on.

    >>> one_line("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    message = message if len(message) <= limit else message[:limit] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
