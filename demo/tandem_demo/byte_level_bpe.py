"""Training the demo models' tokenizers: byte-level BPE that takes digits one by one."""

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers


def train_byte_level_bpe(
    texts: Iterable[str], special_tokens: Sequence[str], vocab_size: int, begin: str
) -> Tokenizer:
    """Learns the merges of texts; the same texts give the same tokenizer.

    Args:
        texts: What to learn from.
        special_tokens: They take the first ids.
        vocab_size: Entries, special tokens and bytes included.
        begin: The special token that every text begins with.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    return tokenizer
