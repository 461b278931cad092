"""Small tokenizers of each kind that the tokenizer service decodes, built on the spot."""

import json
from functools import cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = [
    "the quick brown fox jumps over the lazy dog, and then the dog sleeps",
    "Grüße aus Köln, naïve café, 東京の天気は晴れです, 你好世界",
    "two  spaces, a\ttab and a\nnewline; 👩‍👩‍👧 family, 🙂 smile, e\u0301 accent",
] * 4
SPECIAL = ["<s>", "</s>", "<|user|>", "<|assistant|>"]


@cache
def byte_level() -> Tokenizer:
    """GPT-2's kind."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("naïve|added", normalized=False)])
    return tokenizer


@cache
def byte_fallback() -> Tokenizer:
    """Llama 2's kind: `▁` for spaces, one token for each byte that no other token covers."""
    tokenizer = Tokenizer(_merges(_sentence_pieces(), with_bytes=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


@cache
def metaspace() -> Tokenizer:
    """T5's kind: `▁` for spaces, no tokens for bytes."""
    tokenizer = Tokenizer(_merges(_sentence_pieces(), with_bytes=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def write_model_dir(directory: Path, tokenizer: Tokenizer, chat_template: str | None = None) -> Path:
    """A model directory with a tokenizer and no weights."""
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": 1}))
    if chat_template is not None:
        (directory / "chat_template.jinja").write_text(chat_template)
    return directory


@cache
def with_images() -> Tokenizer:
    """`byte_level` with a placeholder for images, which is its last token."""
    tokenizer = Tokenizer.from_str(byte_level().to_str())
    tokenizer.add_special_tokens(["<image>"])
    return tokenizer


def write_vision_model_dir(directory: Path, chat_template: str | None = None, **config: object) -> Path:
    """A model directory whose config.json is a LLaVA's: 28 pixels wide in patches of 14, so 4 placeholders.

    Args:
        directory: Where to write it.
        chat_template: The template, if it has one.
        config: Fields of config.json that differ.
    """
    write_model_dir(directory, with_images(), chat_template)
    fields = {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "eos_token_id": 1,
        "image_token_index": with_images().token_to_id("<image>"),
        "vision_config": {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14},
    }
    (directory / "config.json").write_text(json.dumps({**fields, **config}))
    processor = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}, "resample": 3}
    (directory / "preprocessor_config.json").write_text(json.dumps(processor))
    return directory


@cache
def _sentence_pieces() -> Tokenizer:
    """Learns pieces from the corpus without its rarest characters, which are left to the bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=["<unk>"], limit_alphabet=50, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _merges(learnt: Tokenizer, *, with_bytes: bool) -> models.BPE:
    model = json.loads(learnt.to_str())["model"]
    vocab = dict(model["vocab"])
    if with_bytes:
        for byte in range(256):
            vocab[f"<0x{byte:02X}>"] = len(vocab)
    merges = [tuple(pair) for pair in model["merges"]]
    return models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=with_bytes, fuse_unk=True)
