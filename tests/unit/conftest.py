"""Cores run on the CPU here."""

import pytest

from support.local_core import LocalCore


@pytest.fixture(scope="session")
def local_core():
    return LocalCore
