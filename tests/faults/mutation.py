"""Random changes of files."""

from __future__ import annotations

import random

TOKENS = [
    b"nan", b"-nan(ind)", b"inf", b"1e999", b"-1", b"0", b"null", b"true", b'"', b"'", b",", b"\n", b"\r", b"\r\n",
    b"\0", b"\x1d", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"../", b"/", b"\\", b"://", b"{", b"}", b"[" * 200,
    b"]", b"=", b"#", b"99999999999999999999", b"\xf0\x9f\x98\x80", b" ", b"\t", b"image_id", b"x_0",
]  # fmt: skip
MAX_CHANGES = 6


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Return a file with some bytes changed, cut out, inserted or repeated."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, MAX_CHANGES)):
        _change(changed, chance)
    return bytes(changed)


def _change(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content) + 1)
    length = min(int(2 ** chance.uniform(0, 10)), len(content) - start)
    kind = chance.randrange(7)
    if kind == 0:
        for index in range(start, min(start + 1 + length // 64, len(content))):
            content[index] ^= 1 << chance.randrange(8)
    elif kind == 1:
        for index in range(start, min(start + 1, len(content))):
            content[index] = chance.randrange(256)
    elif kind == 2:
        del content[start : start + length]
    elif kind == 3:
        content[start:start] = chance.randbytes(length % 64 + 1)
    elif kind == 4:
        content[start:start] = chance.choice(TOKENS)
    elif kind == 5:
        content[start:start] = content[start : start + length] * chance.choice((1, 1, 1, 20))
    elif chance.random() < 0.3:
        del content[start:]
