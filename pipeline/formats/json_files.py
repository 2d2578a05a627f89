"""JSON that is not trusted: decoded into typed records, every fault reported in one line."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from pipeline import storage
from pipeline.errors import InputError

Record = TypeVar("Record")

MAX_JSON_BYTES = 1 << 28
"""Bytes of a JSON file that is read: dataset.json has 250 for each shard."""


def read_json_file(path: str) -> bytes:
    """Read a JSON file whose names are each there once.

    Of a name that is there twice, readers take the one or the other: what one checks, another would not use.

    Raises
    ------
    OSError
        If it cannot be read, or is larger than `MAX_JSON_BYTES`.
    InputError
        If it is not valid JSON, or a name is there twice.
    """
    content = storage.read_bytes(path, MAX_JSON_BYTES)
    decode_json(content, object, path, InputError)
    try:
        json.loads(content, object_pairs_hook=_unique)
    except _RepeatedNameError as error:
        raise InputError(f"{path}: {error.args[0]!r} is there twice in one object, expected each name once") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
    return content


class _RepeatedNameError(Exception):
    """A name that an object of JSON has twice."""


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise _RepeatedNameError(name)
        seen.add(name)


def decode_json(content: bytes, kind: type[Record], place: str, error_type: type[Exception]) -> Record:
    """Decode JSON into a record.

    Parameters
    ----------
    content : bytes
    kind : type
        Of the record: a msgspec Struct, or `object` for any JSON.
    place : str
        Where the content is from, for messages.
    error_type : type
        Of the exception raised.

    Raises
    ------
    error_type
        If the content is not valid JSON, or a field is missing or wrong.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise error_type(f"{place}: {error}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise error_type(f"{place}: not valid JSON: {error}") from None
