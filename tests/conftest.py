"""Settings of all tests."""

import os

import pytest
from hypothesis import settings

from pipeline.demo import make_sample

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    """The built-in sample, made once; it must not be changed."""
    folder = tmp_path_factory.mktemp("sample")
    return make_sample(str(folder), str(folder / "unused"))
