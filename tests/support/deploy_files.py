"""What the tests of compose.yaml and of the manifests read: images, and command lines as configurations."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from engine_service.config import EngineConfig
from tandem_service.flags import parse_flags
from tokenizer_service.config import TokenizerServiceConfig

ROOT = Path(__file__).parents[2]
_CONFIGS: dict[str, type[Any]] = {"engine_service": EngineConfig, "tokenizer_service": TokenizerServiceConfig}
# Compose's variables with a default, and those of Kubernetes.
_VARIABLE = re.compile(r"\$\{(?P<name>\w+):-(?P<default>[^}]*)\}|\$\((?P<plain>\w+)\)")


def load(path: str) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all((ROOT / path).read_text(encoding="utf-8")))


def images() -> dict[str, dict[str, str]]:
    """The targets of the Dockerfile that have an entry point, with the last of each of their instructions."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    stages: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages[rest.rpartition(" ")[2]] = stage = {}
        elif stages and word.isupper():
            stage[word] = rest
    return {name: stage for name, stage in stages.items() if "ENTRYPOINT" in stage}


def environment(image: Mapping[str, str]) -> dict[str, str]:
    """The variables that an image sets."""
    return dict(word.split("=", 1) for word in shlex.split(image["ENV"]))


def configuration(target: str, arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> Any:
    """What the service of an image makes of a command line.

    Args:
        target: The image's target in the Dockerfile.
        arguments: What follows the entry point.
        variables: Values of variables that have no default.
    """
    module = yaml.safe_load(images()[target]["ENTRYPOINT"])[-1]
    arguments = [resolved(argument, variables or {}) for argument in arguments]
    return parse_flags(_CONFIGS[module], module, "", arguments)


def resolved(text: str, variables: Mapping[str, str]) -> str:
    """`text` with defaults in place of Compose's variables, and values in place of Kubernetes'."""

    def value(match: re.Match[str]) -> str:
        return variables[match["plain"]] if match["plain"] else match["default"]

    return _VARIABLE.sub(value, text)
