"""Command-line flags generated from the fields of a frozen configuration dataclass."""

import argparse
import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

Config = TypeVar("Config")


def flag(default: Any, help: str, *, unit: str = "", choices: Sequence[str] | None = None) -> Any:
    """A dataclass field that is also a flag.

    Args:
        default: The field's default, written only here.
        help: One sentence for `--help`.
        unit: What a number counts, for example "seconds".
        choices: The allowed values, if they are few.
    """
    return dataclasses.field(default=default, metadata={"help": help, "unit": unit, "choices": choices})


def check_at_least(config: Any, least: float, *names: str) -> None:
    """Sees that fields of a configuration are at least `least`.

    Raises:
        ValueError: One is not; the message has its name and value.
    """
    for name in names:
        value = getattr(config, name)
        if not value >= least:
            raise ValueError(f"{name}={value}: must be at least {least}")


def parse_flags(config_type: type[Config], program: str, about: str, arguments: Sequence[str]) -> Config:
    """Builds a configuration from command-line arguments.

    Args:
        config_type: A dataclass whose fields were made with `flag`.
        program: The program's name in `--help`.
        about: What the program does, in `--help`.
        arguments: The arguments without the program's name.

    Raises:
        SystemExit: After `--help`, or with status 2 if an argument is wrong.
    """
    parser = argparse.ArgumentParser(prog=program, description=about)
    hints = typing.get_type_hints(config_type)
    for field in dataclasses.fields(config_type):  # type: ignore[arg-type]
        _add_flag(parser, field, hints[field.name])
    try:
        return config_type(**vars(parser.parse_args(arguments)))
    except ValueError as error:
        parser.error(str(error))


def to_arguments(config: Any) -> list[str]:
    """The arguments from which `parse_flags` builds `config` again; fields at their default are left out."""
    arguments = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value == field.default:
            continue
        name = _flag_name(field.name)
        if isinstance(value, bool):
            arguments.append(name if value else name.replace("--", "--no-", 1))
        else:
            arguments.append(f"{name}={value}")
    return arguments


def _flag_name(field_name: str) -> str:
    return "--" + field_name.replace("_", "-")


def _add_flag(parser: argparse.ArgumentParser, field: dataclasses.Field[Any], hint: Any) -> None:
    meta = field.metadata
    shown = "none" if field.default is None else repr(field.default) if field.default == "" else field.default
    unit = f", in {meta['unit']}" if meta["unit"] else ""
    options: dict[str, Any] = {"default": field.default, "help": f"{meta['help']} (default {shown}{unit})"}
    if hint is bool:
        options["action"] = argparse.BooleanOptionalAction
    else:
        options["type"] = _value_type(hint)
        options["metavar"] = (meta["unit"] or _value_type(hint).__name__).upper().replace(" ", "_")
    if meta["choices"]:
        options["choices"] = meta["choices"]
        del options["metavar"]
    parser.add_argument(_flag_name(field.name), **options)


def _value_type(hint: Any) -> Any:
    """The type that turns the argument's text into the value: `T` of `T | None`."""
    if isinstance(hint, types.UnionType):
        return next(arm for arm in typing.get_args(hint) if arm is not type(None))
    return hint
