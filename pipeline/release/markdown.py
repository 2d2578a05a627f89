"""Text of others in Markdown and YAML: shown as it is, whatever marks it contains."""

from __future__ import annotations

import json
import re

MARKS = re.compile(r"[\\`*\[\]<>|$~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""Characters that begin markup, HTML or formulas anywhere in a line; an underscore within a word does not."""
PLAIN_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#@!+,;=%&-]+")
BACKTICKS = re.compile("`+")
LINE_BREAKS = re.compile("[\x7f-\x9f\u2028\u2029]")
"""Characters beside those below the space that YAML takes for line breaks, or forbids."""


def inline(text: str) -> str:
    r"""Return text for the middle of a line of Markdown, also in the cell of a table.

    >>> print(inline("a_b *c* | <d>"))
    a_b \*c\* \| \<d\>
    """
    return MARKS.sub(lambda match: "\\" + match[0], _joined(text))


def link(url: str) -> str:
    """Return an address, which Markdown shows as a link only where it is a plain one."""
    return url if PLAIN_URL.fullmatch(url) else inline(url)


def code(text: str) -> str:
    """Return text as code within a line.

    >>> print(code("a`b"))
    `` a`b ``
    """
    text = _joined(text)
    fence = _fence(text, 1)
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def code_block(text: str) -> str:
    """Return text as a block of code."""
    fence = _fence(text, 3)
    return f"{fence}\n{text}\n{fence}"


def yaml_text(text: str) -> str:
    r"""Return text as a quoted value of YAML.

    >>> print(yaml_text('a: "b"\nc'))
    "a: \"b\"\nc"
    """
    quoted = json.dumps(text, ensure_ascii=False)
    return LINE_BREAKS.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def _joined(text: str) -> str:
    """Return text in one line, without control characters."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def _fence(text: str, least: int) -> str:
    return "`" * max([least, *(len(run) + 1 for run in BACKTICKS.findall(text))])
