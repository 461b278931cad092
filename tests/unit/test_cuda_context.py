"""The CUDA context is opened before torch is there, or nothing happens."""

import ctypes

import pytest

from engine_service.cuda_context import open_context

CALLS = ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"]


class Driver:
    """Stands for libcuda: notes what is called, and fails at one call."""

    def __init__(self, failing):
        self.called = []
        self._failing = failing

    def __getattr__(self, name):
        def call(*_):
            self.called.append(name)
            return 100 if name == self._failing else 0

        return call


@pytest.mark.parametrize("failing", [*CALLS, None])
def test_the_context_is_asked_for_until_a_call_fails(monkeypatch, failing):
    driver = Driver(failing)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    open_context()
    assert driver.called == (CALLS[: CALLS.index(failing) + 1] if failing else CALLS)


def test_without_a_driver_nothing_happens(monkeypatch):
    def load(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", load)
    open_context()
