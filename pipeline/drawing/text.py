"""Names and counts as text for readers."""

from __future__ import annotations


def display_name(name: str) -> str:
    """Return a name such as ``top_of_head`` as people write it.

    >>> display_name("top_of_head")
    'top of head'
    """
    return name.replace("_", " ")
