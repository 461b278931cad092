"""Token ids to text in pieces, held against the whole decode of the tokenizers library."""

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, decoders

from support.small_tokenizers import byte_fallback, byte_level, metaspace
from tokenizer_service.detokenizer import Detokenizer, decode, detokenizer_for
from tokenizer_service.token_table import build_token_table

KINDS = {"byte-level": byte_level, "byte-fallback": byte_fallback, "metaspace": metaspace}
TABLES = {name: build_token_table(build()) for name, build in KINDS.items()}

each_kind = pytest.mark.parametrize("kind", KINDS)
many = settings(max_examples=150, deadline=None)

emoji = st.sampled_from(["👩‍👩‍👧", "🙂", "🏳️‍🌈", "é", "e\u0301", "東", "\u0000", "  ", "\n"])
texts = st.lists(st.one_of(st.text(max_size=8), emoji), max_size=8).map("".join)
cuts = st.lists(st.integers(1, 5), min_size=1, max_size=20)


def ids_of(kind: str, wild: list[int]) -> list[int]:
    """Ids of the vocabulary, and a few beyond it; bytes of broken characters among them."""
    size = KINDS[kind]().get_vocab_size()
    return [each % (size + 3) for each in wild]


def in_pieces(detokenizer: Detokenizer, tokens: list[int], sizes: list[int]) -> list[str]:
    """Pushes `tokens` in pieces of `sizes`, again and again; gives every text."""
    found, start, turn = [], 0, 0
    while start < len(tokens):
        size = sizes[turn % len(sizes)]
        found += detokenizer.push(tokens[start : start + size])
        start, turn = start + size, turn + 1
    return found + detokenizer.finish()


def whole(tokenizer: Tokenizer, tokens: list[int], special_tokens: bool) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=not special_tokens)


@each_kind
@many
@given(wild=st.lists(st.integers(0, 10_000), max_size=40), sizes=cuts, special_tokens=st.booleans())
def test_pieces_of_random_ids_are_the_whole_decode(kind, wild, sizes, special_tokens):
    tokens = ids_of(kind, wild)
    detokenizer = detokenizer_for(TABLES[kind], special_tokens=special_tokens)
    found = in_pieces(detokenizer, tokens, sizes)
    assert len(found) == len(tokens)
    assert "".join(found) == whole(KINDS[kind](), tokens, special_tokens)


@each_kind
@many
@given(text=texts, sizes=cuts)
def test_pieces_of_text_are_the_whole_decode_without_half_characters(kind, text, sizes):
    tokens = KINDS[kind]().encode(text, add_special_tokens=False).ids
    expected = whole(KINDS[kind](), tokens, special_tokens=False)
    found = in_pieces(detokenizer_for(TABLES[kind], special_tokens=False), tokens, sizes)
    assert "".join(found) == expected
    if "\ufffd" not in expected:
        assert not any("\ufffd" in piece for piece in found)


@each_kind
@many
@given(prompt=texts, answer=texts, sizes=cuts)
def test_a_continuation_has_what_the_prompts_decode_lacks(kind, prompt, answer, sizes):
    tokenizer = KINDS[kind]()
    before = tokenizer.encode(prompt, add_special_tokens=False).ids
    tokens = tokenizer.encode(answer, add_special_tokens=False).ids
    detokenizer = detokenizer_for(TABLES[kind], special_tokens=False, prompt=before)
    found = "".join(in_pieces(detokenizer, tokens, sizes))
    assert whole(tokenizer, before, False) + found == whole(tokenizer, before + tokens, False)


@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback"])
def test_a_character_waits_for_its_last_byte(kind):
    tokens = KINDS[kind]().encode("a🙂b", add_special_tokens=False).ids
    detokenizer = detokenizer_for(TABLES[kind], special_tokens=False)
    seen = ["".join(detokenizer.push([token])) for token in tokens]
    assert "🙂" in "".join(seen)
    assert not any("\ufffd" in piece for piece in seen)


def test_a_run_of_whole_characters_in_byte_tokens_is_split_by_character():
    tokenizer = byte_fallback()
    pieces = [f"<0x{byte:02X}>" for byte in "é🙂".encode()]
    tokens = [tokenizer.token_to_id(piece) for piece in pieces]
    detokenizer = detokenizer_for(TABLES["byte-fallback"], special_tokens=False)
    assert detokenizer.push(tokens) == []
    assert detokenizer.finish() == ["", "é", "", "", "", "🙂"]


@pytest.mark.parametrize(
    ("kind", "halves"), [("byte-level", ["Ã", "¸"]), ("byte-fallback", ["<0xC3>", "<0xB8>"])]
)
def test_a_skipped_special_token_does_not_part_a_character(kind, halves):
    tokenizer = KINDS[kind]()
    first, second = (tokenizer.token_to_id(half) for half in halves)
    tokens = [first, tokenizer.token_to_id("</s>"), second]
    for special_tokens, expected in [(False, "ø"), (True, "\ufffd</s>\ufffd")]:
        detokenizer = detokenizer_for(TABLES[kind], special_tokens=special_tokens)
        assert "".join(in_pieces(detokenizer, tokens, [1])) == expected
        assert whole(tokenizer, tokens, special_tokens) == expected


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
@many
@given(wild=st.lists(st.integers(0, 10_000), max_size=10))
def test_metaspace_follows_its_prepend_scheme(scheme, wild):
    tokenizer = Tokenizer.from_str(metaspace().to_str())
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    tokens = ids_of("metaspace", wild)
    assert decode(build_token_table(tokenizer), tokens, special_tokens=False) == tokenizer.decode(tokens)


@pytest.mark.parametrize(
    ("decoder", "named"),
    [
        (None, "decoder is null"),
        (decoders.WordPiece(), "WordPiece"),
        (decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 0, 1)]), "strips 1 characters at the end"),
        (decoders.Sequence([decoders.Strip(" ", 1, 0)]), "Strip"),
    ],
    ids=["none", "word-piece", "strip-at-end", "strip-each-token"],
)
def test_other_decoders_are_refused_by_name(decoder, named):
    tokenizer = Tokenizer.from_str(metaspace().to_str())
    tokenizer.decoder = decoder
    with pytest.raises(ValueError, match=named):
        build_token_table(tokenizer)


@pytest.mark.parametrize(
    ("kind", "spelling", "piece"),
    [
        ("byte-level", "Ġ", b" "),
        ("byte-level", "Ċ", b"\n"),
        ("byte-level", "</s>", b"</s>"),
        ("byte-fallback", "<0xE2>", b"\xe2"),
        ("byte-fallback", "▁t", b" t"),
        ("byte-fallback", "<|user|>", b"<|user|>"),
        ("metaspace", "▁t", b" t"),
    ],
)
def test_pieces_are_the_exact_bytes(kind, spelling, piece):
    token = KINDS[kind]().token_to_id(spelling)
    assert TABLES[kind].piece(token) == piece


@each_kind
def test_ids_beyond_the_vocabulary_have_no_bytes(kind):
    assert TABLES[kind].piece(KINDS[kind]().get_vocab_size()) == b""
