"""What each token id stands for: its exact bytes and, where it is whole, its text."""

import json
import re
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class DecoderStyle:
    """How a tokenizer's decoder joins tokens.

    Attributes:
        is_byte_level: Tokens are spelt in the byte-level alphabet, and their bytes are simply joined.
        replacements: Pairs of what is replaced inside each token, and by what.
        has_byte_tokens: Tokens such as `<0x0A>` stand for one byte.
        strip_char: The character that is stripped from the start of a fresh text.
        num_strip: At most how many of it.
        bare_first: What is removed from the first token of a fresh text; empty for nothing.
    """

    is_byte_level: bool = False
    replacements: tuple[tuple[str, str], ...] = ()
    has_byte_tokens: bool = False
    strip_char: str = " "
    num_strip: int = 0
    bare_first: str = ""


@dataclass(frozen=True)
class TokenTable:
    """Every token id's meaning; the lists are indexed by id.

    Attributes:
        style: How tokens are joined.
        spellings: The tokens as the vocabulary spells them; empty where an id has no token.
        pieces: The exact bytes of each token.
        texts: The text of each token; None where the bytes may be a part of a character.
        unspecial_texts: The same with special tokens left out.
    """

    style: DecoderStyle
    spellings: list[str]
    pieces: list[bytes]
    texts: list[str | None]
    unspecial_texts: list[str | None]

    def piece(self, token: int) -> bytes:
        """The exact bytes of a token; none for an id beyond the tokenizer's vocabulary."""
        return self.pieces[token] if token < len(self.pieces) else b""


def build_token_table(backend: Tokenizer) -> TokenTable:
    """The table of a tokenizer.

    Raises:
        ValueError: Its decoder is of an unsupported kind.
    """
    style = _parse_style(backend)
    added = backend.get_added_tokens_decoder()
    ids = {**{i: token for token, i in backend.get_vocab(with_added_tokens=False).items()}}
    ids.update({i: token.content for i, token in added.items()})
    spellings = [ids.get(i, "") for i in range(max(ids, default=-1) + 1)]
    special = {token.content for token in added.values() if token.special}
    alphabet = _byte_level_alphabet() if style.is_byte_level else {}
    pieces = [_piece(spelling, style, alphabet) for spelling in spellings]
    texts = [_text(spelling, piece, style) for spelling, piece in zip(spellings, pieces, strict=True)]
    unspecial = ["" if each in special else text for each, text in zip(spellings, texts, strict=True)]
    return TokenTable(style, spellings, pieces, texts, unspecial)


def _piece(spelling: str, style: DecoderStyle, alphabet: dict[str, int]) -> bytes:
    if style.is_byte_level:
        if all(char in alphabet for char in spelling):
            return bytes(alphabet[char] for char in spelling)
        return spelling.encode()
    for old, new in style.replacements:
        spelling = spelling.replace(old, new)
    byte = _BYTE_TOKEN.fullmatch(spelling) if style.has_byte_tokens else None
    return bytes([int(byte[1], 16)]) if byte else spelling.encode()


def _text(spelling: str, piece: bytes, style: DecoderStyle) -> str | None:
    if style.has_byte_tokens and _BYTE_TOKEN.fullmatch(spelling):
        return None
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return None


def _byte_level_alphabet() -> dict[str, int]:
    """The character that stands for each byte in byte-level vocabularies (Radford et al., GPT-2).

    Printable characters of Latin-1 stand for themselves, the other bytes for U+0100 and up in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _parse_style(backend: Tokenizer) -> DecoderStyle:
    if backend.decoder is None:
        raise ValueError("tokenizer.json: decoder is null; ByteLevel, Metaspace or ByteFallback is needed")
    decoder = json.loads(backend.decoder.__getstate__())
    steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return DecoderStyle(is_byte_level=True)
    if kinds == ["Metaspace"]:
        return _metaspace_style(steps[0])
    if re.fullmatch(r"(Replace )*(ByteFallback )?(Fuse (Strip )?)?", " ".join([*kinds, ""])):
        return _replacing_style(steps)
    raise ValueError(
        f"tokenizer.json: decoder is {' + '.join(kinds)}; supported are ByteLevel, Metaspace, and "
        "Replace + ByteFallback + Fuse + Strip"
    )


def _metaspace_style(step: dict[str, Any]) -> DecoderStyle:
    mark = step["replacement"]
    bare_first = "" if step["prepend_scheme"] == "never" else mark
    return DecoderStyle(replacements=((mark, " "),), bare_first=bare_first)


def _replacing_style(steps: list[dict[str, Any]]) -> DecoderStyle:
    by_kind = {step["type"]: step for step in steps}
    replacements = []
    for step in steps:
        if step["type"] == "Replace":
            if "String" not in step["pattern"]:
                raise ValueError(f"tokenizer.json: decoder replaces {step['pattern']}; only strings can be")
            replacements.append((step["pattern"]["String"], step["content"]))
    strip = by_kind.get("Strip", {"content": " ", "start": 0, "stop": 0})
    if strip["stop"]:
        raise ValueError(
            f"tokenizer.json: decoder strips {strip['stop']} characters at the end; only 0 can be"
        )
    return DecoderStyle(
        replacements=tuple(replacements),
        has_byte_tokens="ByteFallback" in by_kind,
        strip_char=strip["content"],
        num_strip=strip["start"],
    )
