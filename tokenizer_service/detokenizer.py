"""Token ids to text, piece by piece: never half a character, never one less than the whole decode has."""

import codecs
from collections.abc import Sequence
from typing import Protocol

from tokenizer_service.token_table import TokenTable

_REPLACEMENT = "\ufffd"
_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Detokenizer(Protocol):
    """Turns one answer's tokens into text as they come.

    Each token gets the text that it completes, so the texts that come out are those of the first
    tokens that went in, in order. Tokens that end inside a character wait for its end.
    """

    def push(self, tokens: Sequence[int]) -> list[str]:
        """The texts of the next tokens that are certain now."""
        ...

    def finish(self) -> list[str]:
        """The texts of the tokens that still waited; what is no character becomes U+FFFD."""
        ...


def detokenizer_for(
    table: TokenTable, *, special_tokens: bool, prompt: Sequence[int] | None = None
) -> Detokenizer:
    """A detokenizer for one answer.

    Args:
        table: The tokenizer's tokens.
        special_tokens: Whether special tokens appear in the text.
        prompt: The tokens whose text the answer continues; None if its text starts on its own. A
            SentencePiece-style decoder takes the first space away only where a text starts.
    """
    texts = table.texts if special_tokens else table.unspecial_texts
    if table.style.is_byte_level:
        return ByteLevelDetokenizer(table, texts)
    is_fresh = all(_text_of(texts, token) == "" for token in prompt or ())
    return PieceDetokenizer(table, texts, is_fresh)


def decode(table: TokenTable, tokens: Sequence[int], *, special_tokens: bool) -> str:
    """The whole text of some tokens."""
    detokenizer = detokenizer_for(table, special_tokens=special_tokens)
    return "".join(detokenizer.push(tokens) + detokenizer.finish())


def _text_of(texts: Sequence[str | None], token: int) -> str | None:
    """An id beyond the tokenizer's vocabulary has no text; models pad their vocabularies."""
    return texts[token] if token < len(texts) else ""


class ByteLevelDetokenizer:
    """For byte-level vocabularies: the text is the tokens' bytes, read as UTF-8.

    A run of tokens whose borders lie inside characters is released as a whole, its text with its last
    token: no cut within the run would leave text that its tokens say.
    """

    def __init__(self, table: TokenTable, texts: Sequence[str | None]) -> None:
        """`texts` are those of `table`, with special tokens or without."""
        self._pieces = table.pieces
        self._texts = texts
        self._utf8 = _Utf8Decoder(errors="replace")
        self._run_text = ""
        self._run_length = 0

    def push(self, tokens: Sequence[int]) -> list[str]:
        """See Detokenizer."""
        done = []
        for token in tokens:
            text = _text_of(self._texts, token)
            if text is not None and not self._run_length:
                done.append(text)
                continue
            self._run_text += self._utf8.decode(self._pieces[token] if text is None else text.encode())
            self._run_length += 1
            if not self._utf8.getstate()[0]:
                done += self._end_run()
        return done

    def finish(self) -> list[str]:
        """See Detokenizer."""
        self._run_text += self._utf8.decode(b"", final=True)
        return self._end_run() if self._run_length else []

    def _end_run(self) -> list[str]:
        texts = [""] * (self._run_length - 1) + [self._run_text]
        self._run_text, self._run_length = "", 0
        return texts


class PieceDetokenizer:
    """For SentencePiece-style vocabularies: tokens are text, some stand for one byte.

    The decoder of `tokenizers` turns a run of byte tokens into text only if the whole run is valid
    UTF-8, else each byte becomes U+FFFD. A run therefore waits for its end.
    """

    def __init__(self, table: TokenTable, texts: Sequence[str | None], is_fresh: bool) -> None:
        """`texts` are those of `table`, with or without special tokens; `is_fresh`: a text starts here."""
        self._table = table
        self._texts = texts
        self._run: list[bytes] = []
        self._num_strip = table.style.num_strip if is_fresh else 0
        self._bare_first = table.style.bare_first if is_fresh else ""

    def push(self, tokens: Sequence[int]) -> list[str]:
        """See Detokenizer."""
        done: list[str] = []
        for token in tokens:
            text = _text_of(self._texts, token)
            if text is None:
                self._run.append(self._table.pieces[token])
            elif text == "" and self._run:
                self._run.append(b"")
            else:
                done += self._end_run()
                done.append(self._without_mark(token, text) if self._bare_first else text)
        return self._stripped(done) if self._num_strip else done

    def finish(self) -> list[str]:
        """See Detokenizer."""
        return self._stripped(self._end_run())

    def _end_run(self) -> list[str]:
        run, self._run = self._run, []
        try:
            b"".join(run).decode()
        except UnicodeDecodeError:
            return [_REPLACEMENT if piece else "" for piece in run]
        utf8 = _Utf8Decoder()
        return [utf8.decode(piece) for piece in run]

    def _without_mark(self, token: int, text: str) -> str:
        """The text of what may be the first token: Metaspace drops every mark in it."""
        if not text:
            return text
        mark, self._bare_first = self._bare_first, ""
        return self._table.spellings[token].replace(mark, "")

    def _stripped(self, texts: list[str]) -> list[str]:
        return [self._strip(text) if self._num_strip and text else text for text in texts]

    def _strip(self, text: str) -> str:
        while self._num_strip and text.startswith(self._table.style.strip_char):
            text = text[1:]
            self._num_strip -= 1
        if text:
            self._num_strip = 0
        return text
