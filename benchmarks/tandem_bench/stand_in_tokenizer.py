"""A byte-level tokenizer of any size, for runs through the services with weights that nobody trained."""

import itertools
import json
import string
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tandem_bench.shape import EOS, Shape


def write_tokenizer(shape: Shape, directory: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json with as many tokens as the shape has.

    Beside bytes and special tokens ids stand for a space and letters, so that random ids cost what words
    cost to decode. Text is encoded as its bytes.
    """
    tokenizer = Tokenizer(models.BPE(vocab=_vocabulary(shape), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = shape.special_tokens.values()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": EOS}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def _vocabulary(shape: Shape) -> dict[str, int]:
    special = shape.special_tokens
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spellings = [*alphabet, *_words(shape.vocab_size - len(alphabet) - len(special))]
    for index in sorted(special):
        spellings.insert(index, special[index])
    return {spelling: index for index, spelling in enumerate(spellings)}


def _words(count: int) -> list[str]:
    """Different words of four letters after a space, which byte-level vocabularies spell Ġ."""
    letters = itertools.product(string.ascii_lowercase, repeat=4)
    return ["Ġ" + "".join(each) for each in itertools.islice(letters, count)]
