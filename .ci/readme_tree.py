"""Writes the README's file tree from the files' own first lines; with --check, compares it instead."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- files:begin -->", "<!-- files:end -->"
# Files that cannot say what they are, and folders that are told in one line.
TOLD = {
    ".ci/run": "everything that must hold for a commit, from a clean checkout",
    ".gitignore": "what is made here and not kept",
    "CHANGELOG.md": "what changed for users",
    "LICENSE": "Apache License 2.0",
    "README.md": "this page",
    "constraints.txt": "the exact versions that are tested together",
    "pyproject.toml": "the distribution `tandem-llm`, its extras, and the tools' settings",
    "deploy/grafana/dashboards/tandem.json": "the dashboard of both services",
    "protos/buf.yaml": "lint and breaking rules of the protos, and the exceptions",
    "protos/landed_commit": "the commit whose contract must not break",
    "demo/tandem_demo/MODEL_CARD.md": "what the text model can do and how well",
    "demo/tandem_demo/accuracy.json": "the figures of the model card",
    "demo/tandem_demo/model/": "the trained checkpoint, a Hugging Face model directory",
    "demo/tandem_demo/pictures/MODEL_CARD.md": "what the picture model can do and how well",
    "demo/tandem_demo/pictures/accuracy.json": "the figures of the picture model's card",
    "demo/tandem_demo/pictures/model/": "the trained checkpoint that sees, a Hugging Face model directory",
    "demo/tandem_demo/text/word_lists.txt": "the words of the training text",
    "clients/tandem/py.typed": "tells type checkers to trust the client's annotations",
    "clients/tandem/v1/": "generated stubs of the public contract",
    "clients/tandem/engine/v1/": "generated stubs of the engine contract",
    "benchmarks/tandem_bench/data/": "lengths of the mixed requests",
    "benchmarks/results/": "measured figures, with what is needed to measure them again",
}


def main() -> int:
    """Rewrites the tree; with --check, returns 1 if it is out of date."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    fresh = f"{before}{BEGIN}\n```\n{tree()}\n```\n{END}{after}"
    if "--check" in sys.argv:
        if fresh != text:
            print("README.md: the file tree is out of date: run 'make tree'", file=sys.stderr)
        return int(fresh != text)
    readme.write_text(fresh, encoding="utf-8")
    return 0


def tree() -> str:
    """One line for each tracked file, folders before their files."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines, current = [], ""
    for entry in sorted({folder_of(path) for path in listed.stdout.splitlines()}, key=sort_key):
        folder, _, name = entry.rstrip("/").rpartition("/")
        if folder and folder != current:
            lines.append(f"{folder}/")
        current = folder
        indent = "  " if folder else ""
        shown = f"{indent}{name}{'/' if entry.endswith('/') else ''}"
        lines.append(f"{shown:<31} {says(entry)}".rstrip())
    return "\n".join(lines)


def sort_key(entry: str) -> tuple[str, str]:
    """By folder, then by name."""
    folder, _, name = entry.rstrip("/").rpartition("/")
    return folder, name


def folder_of(path: str) -> str:
    """The folder that is told in one line, or the file itself."""
    return next((told for told in TOLD if told.endswith("/") and path.startswith(told)), path)


def says(path: str) -> str:
    """A file's own first line about itself."""
    if path in TOLD:
        return TOLD[path]
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".py"):
        told = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0].partition("\n")[0]
    else:
        comments = re.findall(r"^(?://|#(?!!)) ?(.*)$", text, re.MULTILINE)
        told = comments[0] if comments else ""
    if not told:
        raise SystemExit(f"{path}: has no first line that says what it is")
    return told.rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
