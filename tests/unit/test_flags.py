"""Flags from configuration dataclasses: what `--help` says, what is parsed, and back to arguments."""

import dataclasses
from dataclasses import dataclass

import pytest

from engine_service.config import EngineConfig
from tandem_service.flags import flag, parse_flags, to_arguments
from tokenizer_service.config import TokenizerServiceConfig

CONFIGS = pytest.mark.parametrize("config_type", [EngineConfig, TokenizerServiceConfig])


@dataclass(frozen=True)
class Config:
    path: str = flag("here", "where it is")
    size: int = flag(3, "how much", unit="MiB")
    share: float | None = flag(None, "which part")
    fast: bool = flag(True, "whether it runs")
    kind: str = flag("a", "which one", choices=("a", "b"))

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size={self.size}: must be at least 1")


def _parse(*arguments):
    return parse_flags(Config, "program", "does things", arguments)


def test_defaults_are_those_of_the_fields():
    assert _parse() == Config()


@pytest.mark.parametrize(
    "config",
    [
        Config(path="/a b", size=9, share=0.25, fast=False, kind="b"),
        Config(path="--odd=", size=1),
        Config(share=1e-9),
    ],
    ids=["all", "odd-text", "small-number"],
)
def test_arguments_and_configuration_are_the_same_thing(config):
    assert _parse(*to_arguments(config)) == config


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--size=0"], "size=0: must be at least 1", id="bound"),
        pytest.param(["--size=x"], "invalid int value: 'x'", id="type"),
        pytest.param(["--kind=c"], "invalid choice: 'c'", id="choice"),
        pytest.param(["--unknown"], "unrecognized arguments: --unknown", id="unknown"),
    ],
)
def test_a_wrong_flag_ends_with_status_2_and_its_value(capsys, arguments, words):
    with pytest.raises(SystemExit) as exit_:
        _parse(*arguments)
    assert exit_.value.code == 2
    assert words in capsys.readouterr().err


@CONFIGS
def test_help_names_every_flag_with_its_default(capsys, config_type):
    with pytest.raises(SystemExit):
        parse_flags(config_type, "program", "does things", ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(config_type):
        assert f"--{field.name.replace('_', '-')}" in text
        assert field.metadata["help"]
    assert text.count("(default ") == len(dataclasses.fields(config_type))


@CONFIGS
def test_a_number_that_counts_something_has_a_unit(config_type):
    for field in dataclasses.fields(config_type):
        if type(field.default) in (int, float):
            assert field.metadata["unit"], field.name
