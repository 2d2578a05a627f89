"""Names and counts as people read them."""

from __future__ import annotations


def display_name(name: str) -> str:
    """Return a name such as ``top_of_head`` as people write it.

    >>> display_name("top_of_head")
    'top of head'
    """
    return name.replace("_", " ")


def plural(count: int, singular: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "sample"), plural(2000, "sample")
    ('1 sample', '2,000 samples')
    """
    return f"{count:,} {singular if count == 1 else singular + 's'}"
