"""Pictures of a chat: read from files, and shown where the terminal can."""

import base64
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tandem.cli.answer import note
from tandem.request import Image, image

_ROWS = 10
# The kitty protocol takes the data in pieces of at most this many characters.
_KITTY_PIECE = 4096
_PNG = b"\x89PNG\r\n\x1a\n"


def read_picture(path: str) -> Image:
    """The picture in a file.

    Raises:
        ValueError: The file cannot be read.
    """
    try:
        return image(Path(path).expanduser())
    except OSError as error:
        raise ValueError(f"image {path}: {error.strerror or error}") from None


def read_pictures(paths: Sequence[str]) -> list[Image]:
    """The pictures in files, each shown as it is read.

    Raises:
        ValueError: A file cannot be read.
    """
    pictures = [read_picture(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        show(path, picture)
    return pictures


def show(path: str, picture: Image) -> None:
    """Shows a picture on stderr where that is a terminal that can, and says its name and size."""
    data = picture.data or b""
    drawing = thumbnail(data, os.environ) if sys.stderr.isatty() else ""
    if drawing:
        print(drawing, file=sys.stderr, flush=True)
    note(f"[{Path(path).name}, {_size(len(data))}]")


def thumbnail(data: bytes, environment: Mapping[str, str]) -> str:
    """What makes the terminal of this environment draw an image file; empty where it cannot.

    The kitty protocol takes PNG files only; iTerm2 takes what its system can read.
    """
    if "TMUX" in environment or environment.get("TERM", "").startswith(("screen", "tmux")):
        return ""
    program = environment.get("TERM_PROGRAM", "")
    if program in ("iTerm.app", "WezTerm") or environment.get("LC_TERMINAL") == "iTerm2":
        return _iterm(data)
    is_kitty = "KITTY_WINDOW_ID" in environment or environment.get("TERM") in ("xterm-kitty", "xterm-ghostty")
    if (is_kitty or program == "ghostty") and data.startswith(_PNG):
        return _kitty(data)
    return ""


def _iterm(data: bytes) -> str:
    """See https://iterm2.com/documentation-images.html."""
    arguments = f"size={len(data)};inline=1;height={_ROWS};preserveAspectRatio=1"
    return f"\033]1337;File={arguments}:{base64.b64encode(data).decode()}\a"


def _kitty(data: bytes) -> str:
    """See https://sw.kovidgoyal.net/kitty/graphics-protocol; q=2 keeps the terminal from answering."""
    text = base64.b64encode(data).decode()
    pieces = [text[start : start + _KITTY_PIECE] for start in range(0, len(text), _KITTY_PIECE)]
    last = len(pieces) - 1
    heads = [
        f"a=T,f=100,q=2,r={_ROWS},m={int(last > 0)}",
        *(f"m={int(i < last)}" for i in range(1, last + 1)),
    ]
    return "".join(f"\033_G{head};{piece}\033\\" for head, piece in zip(heads, pieces, strict=True))


def _size(num_bytes: int) -> str:
    return f"{num_bytes} bytes" if num_bytes < 1000 else f"{num_bytes / 1000:,.0f} kB"
