"""Keeps torch out of the process."""

import os
import sys


def forbid_torch() -> None:
    """Makes transformers and everybody else take torch for not installed.

    transformers imports torch wherever it finds it, which costs seconds and hundreds of megabytes per
    worker. Must run before the first import of transformers.
    """
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    # Else transformers warns at import that there is no torch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
