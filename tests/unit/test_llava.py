"""Greedy ids and log-probabilities of pictures and words equal those of transformers, on a CPU."""

from support.llava_behaviour import *  # noqa: F403  (tests and their fixtures)
