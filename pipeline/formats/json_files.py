"""JSON that is not trusted: decoded into typed records, every fault reported in one line."""

from __future__ import annotations

from typing import TypeVar

import msgspec

Record = TypeVar("Record")


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
