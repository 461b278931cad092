"""Pictures and words on a GPU equal transformers, with and without graphs."""

from support.llava_behaviour import *  # noqa: F403  (tests and their fixtures)
