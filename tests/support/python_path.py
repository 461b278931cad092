"""Processes of a test that import `support`, wherever else the packages come from."""

import os


def with_support() -> dict[str, str]:
    """The environment in which `support` can be imported from the checkout."""
    path = os.pathsep.join(filter(None, ["tests", os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}
