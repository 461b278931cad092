"""The clients as a whole: examples, signatures, imports."""

import doctest
import inspect
import subprocess
import sys
from collections.abc import Iterator

import pytest

import tandem
from support.scripted_inference import ScriptedInference, Served, running
from tandem import async_client, client


@pytest.fixture
def served() -> Iterator[Served]:
    servicer = ScriptedInference()
    with running(servicer) as target:
        yield servicer, target


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder()
    found = [*finder.find(client.Client), *finder.find(async_client.AsyncClient)]
    return [each for each in found if each.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_examples_of_docstrings(served: Served, example: doctest.DocTest) -> None:
    for each in example.examples:
        each.source = each.source.replace("127.0.0.1:50051", served[1])
    results = doctest.DocTestRunner().run(example)
    assert results.failed == 0
    assert results.attempted > 0


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: list(inspect.signature(function).parameters)
            for name, function in functions
            if not name.startswith("_")
        }

    assert public(tandem.Client) == public(tandem.AsyncClient)


def test_the_client_imports_grpc_and_protobuf_alone() -> None:
    script = (
        "import sys, grpc, grpc.aio, google.protobuf; before = set(sys.modules)\n"
        "import tandem, tandem.cli\n"
        "names = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(names - set(sys.stdlib_module_names) - {'google', 'grpc'}))"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "['tandem']"
