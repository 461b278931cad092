"""Sampling where a request is silent: the model's generation defaults, then the service's flags."""

import dataclasses
from pathlib import Path

from tandem_service.model_dir import read_json
from tokenizer_service.config import TokenizerServiceConfig
from tokenizer_service.request import Sampling, SamplingFields
from tokenizer_service.validation import sampling_violations

_FROM_MODEL = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_NAMES = tuple(each.name for each in dataclasses.fields(Sampling))


def load_defaults(directory: Path, config: TokenizerServiceConfig) -> Sampling:
    """The defaults of a model directory's generation_config.json, overridden by the service's flags.

    A model whose `do_sample` is false is greedy unless somebody asks for a temperature.

    Raises:
        ValueError: A default is out of bounds.
    """
    file = read_json(directory / "generation_config.json")
    values = {name: file[name] for name in _FROM_MODEL if file.get(name) is not None}
    if file.get("do_sample") is False:
        values["temperature"] = 0.0
    # Some models spell "keep all" as -1.
    values["top_k"] = max(0, values.get("top_k", 0))
    for name in _FROM_MODEL:
        override = getattr(config, f"default_{name}")
        if override is not None:
            values[name] = override
    violations = sampling_violations(SamplingFields(**values), vocab_size=0)
    if violations:
        first = violations[0]
        raise ValueError(f"default of {first.field}: {first.description}")
    return Sampling(**values)


def resolve(fields: SamplingFields, defaults: Sampling) -> Sampling:
    """The request's sampling with the defaults filled in; its seed is dealt with apart."""
    values = ((getattr(fields, name), getattr(defaults, name)) for name in _NAMES)
    return Sampling(*(default if sent is None else sent for sent, default in values))
