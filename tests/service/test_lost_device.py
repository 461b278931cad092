"""A device error ends the core; the service says so, starts another and serves again."""

from support.checkpoints import random_model, save
from support.lost_device_behaviour import assert_restarts
from support.python_path import with_support


def test_a_lost_device_ends_its_sequences_unavailable_and_the_core_comes_back(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", with_support()["PYTHONPATH"])
    assert_restarts(save(random_model("llama"), tmp_path), "--device=cpu")
