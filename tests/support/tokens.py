"""Token files of a test."""

import hashlib
from pathlib import Path

TOKEN = "tandem_the-secret-of-the-test"


def write_tokens(path: Path, **quotas: int) -> str:
    """A file with TOKEN, whose name is `reports`; gives its path."""
    entry = ["[[token]]", 'name = "reports"', f'sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"']
    path.write_text("\n".join([*entry, *(f"{name} = {value}" for name, value in quotas.items())]))
    return str(path)
