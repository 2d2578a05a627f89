"""Errors of workers, as Beam hands them on, in one line for the user."""

from __future__ import annotations

import logging

import pytest

from pipeline.building.runner import _worker_error
from pipeline.errors import InputError, RunError

STEP = " [while running 'BuildShards/BuildShard']"


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        (f"pipeline.errors.InputError: a.tar: damaged{STEP}", InputError, "a.tar: damaged"),
        ("InputError: a.tar: damaged", InputError, "a.tar: damaged"),
        (f"pipeline.errors.ShardError: a.tar: damaged{STEP}", InputError, "a.tar: damaged"),
        (f"pipeline.errors.ShardReadError: a.tar: Input/output error{STEP}", InputError, "a.tar: Input/output error"),
        (f"pipeline.errors.FileTooLargeError: a: more than 9 bytes{STEP}", InputError, "a: more than 9 bytes"),
        (f"pipeline.errors.ImageError: empty: file of 0 bytes{STEP}", InputError, "empty: file of 0 bytes"),
        (f"pipeline.errors.RunError: this worker has numpy 1{STEP}", RunError, "this worker has numpy 1"),
        (f"pipeline.errors.ReadError: a.jpg: time-out{STEP}", RunError, "a.jpg: time-out"),
        ("RunError: a [while running 'x'] b.jpg: gone", RunError, "a [while running 'x'] b.jpg: gone"),
        ("RunError: InputError: a.jpg", RunError, "InputError: a.jpg"),
        (
            "RuntimeError: Channel closed prematurely.",
            RunError,
            "the connection to a worker process was lost; run the same command again to resume",
        ),
        (f"RuntimeError: OSError: [Errno 28] a{STEP}", RunError, "[Errno 28] a"),
        (f"OSError: [Errno 28] No space left: '/out/a.tar'{STEP}", RunError, "[Errno 28] No space left: '/out/a.tar'"),
    ],
)
def test_a_foreseen_error_is_its_message_alone(
    line: str, kind: type[Exception], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        error = _worker_error(RuntimeError(f"Traceback (most recent call last):\n  File x\n{line}\n"), "printed")
    assert type(error) is kind
    assert str(error) == message
    assert not caplog.records


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: image 'Errno.jpg' of shard train-000000: ZeroDivisionError('division by zero')",
        "RuntimeError: image 'a.jpg' of shard train-000000: OSError('[Errno 5] Input/output error')",
        "RuntimeError: image 'InputError: a.jpg' of shard train-000000: ValueError('x')",
    ],
)
def test_an_unforeseen_error_keeps_the_name_of_the_image_and_its_traceback_is_logged(
    line: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = _worker_error(RuntimeError(f"Traceback\n{line}{STEP}"), "the traceback")
    assert type(error) is RunError
    assert str(error) == line
    assert [record.getMessage() for record in caplog.records] == ["the traceback"]


def test_an_error_without_text_is_named() -> None:
    assert str(_worker_error(ValueError(), "")) == "ValueError()"
