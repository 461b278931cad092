"""Who may import whom: the doors between the rooms, and the layers inside the engine."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {
    "tandem": ROOT / "clients/tandem",
    "tandem_kernels": ROOT / "kernels/tandem_kernels",
    "tandem_demo": ROOT / "demo/tandem_demo",
    "tandem_service": ROOT / "tandem_service",
    "tokenizer_service": ROOT / "tokenizer_service",
    "engine_service": ROOT / "engine_service",
    # May import everything, and nothing imports it.
    "tandem_bench": ROOT / "benchmarks/tandem_bench",
}
# Beside the standard library and the room itself.
ALLOWED = {
    "tandem": {"grpc", "google"},
    "tandem_kernels": {"torch", "triton"},
    "tandem_service": {
        "tandem", "tandem_demo", "grpc", "grpc_health", "grpc_reflection", "google", "huggingface_hub",
        "prometheus_client", "opentelemetry",
    },
    "tokenizer_service": {
        "tandem", "tandem_service", "grpc", "google", "tokenizers", "transformers", "jinja2", "numpy", "PIL",
        "prometheus_client",
    },
    "engine_service": {
        "tandem", "tandem_service", "tandem_kernels", "grpc", "torch", "safetensors", "tqdm",
        "prometheus_client",
    },
}  # fmt: skip
# The engine's files from the ground up: each imports only from lines before its own.
ENGINE_LAYERS = [
    ["config", "vision_config", "sampling_params", "image_ref", "cuda_context"],
    ["model_config", "sequence"],
    ["plan", "block_pool"],
    [
        "image_store",
        "image_waiters",
        "deadlines",
        "places",
        "sequence_blocks",
        "step_report",
        "throughput",
    ],
    ["waiting_queue"],
    ["scheduler", "fake_runner"],
    ["ledger", "known_prompts"],
    ["core_messages", "session", "admission"],
    ["core_pipe"],
    ["core"],
    ["device", "kv_cache", "sequence_table"],
    ["upload"],
    ["step_words", "readback", "device_memory"],
    ["batch"],
    ["layers"],
    ["models"],
    ["graphs"],
    ["weights", "log_probabilities", "image_encoder"],
    ["model_steps"],
    ["cuda_graph"],
    ["model_runner", "allocation"],
    ["compiling"],
    ["loading"],
    ["core_main"],
    ["core_process", "metrics"],
    ["observer"],
    ["engine", "image_conversion"],
    ["conversion"],
    ["server"],
    ["__main__"],
]
FIRST_LAYER_WITH_TORCH = 10
# This may import prometheus_client late, inside a function: clients get along without it.
LATE_IN_CLIENT = {"metrics_page": "prometheus_client"}
# These may import torch late, inside a function: the fake engine runs without it.
LATE = {"core_main": "loading"}
PROTOBUF_FILES = {
    "engine_service": {"server.py", "conversion.py", "image_conversion.py"},
    "tokenizer_service": {
        "server.py", "service.py", "many_stream.py", "engine_session.py", "engine_conversion.py",
        "engine_commands.py", "engine_connection.py", "submission.py", "request_conversion.py",
        "request_counts.py", "response_conversion.py", "struct_conversion.py",
    },
    "tandem_service": {"status.py", "wire.py", "interceptor.py", "health.py"},
}  # fmt: skip


def _files(room: str) -> list[Path]:
    return [path for path in sorted(ROOMS[room].rglob("*.py")) if "_pb2" not in path.name]


def _imports(path: Path, tree: ast.AST | None = None) -> set[str]:
    """The full names of the modules that a file imports, or a part of it."""
    names = set()
    for node in ast.walk(tree or ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _top_level(tree: ast.Module) -> list[ast.stmt]:
    return [each for each in tree.body if isinstance(each, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_its_door_lets_in(room):
    import sys

    for path in _files(room):
        roots = {name.split(".")[0] for name in _imports(path)}
        late = {LATE_IN_CLIENT.get(path.stem)} if room == "tandem" else set()
        strangers = roots - ALLOWED[room] - sys.stdlib_module_names - {room} - late
        assert not strangers, f"{path.relative_to(ROOT)} imports {strangers}"


@pytest.mark.parametrize("stem", LATE_IN_CLIENT)
def test_what_the_client_may_import_late_it_does_not_import_at_once(stem):
    tree = ast.parse((ROOMS["tandem"] / f"cli/{stem}.py").read_text())
    assert LATE_IN_CLIENT[stem] not in {
        name.split(".")[0] for name in _imports(Path(stem), ast.Module(_top_level(tree), []))
    }


@pytest.mark.parametrize("room", ["engine_service", "tokenizer_service"])
def test_a_service_knows_the_stubs_of_the_client_package_only(room):
    for path in _files(room):
        names = {name for name in _imports(path) if name.split(".")[0] == "tandem"}
        assert all("_pb2" in name for name in names), f"{path.relative_to(ROOT)} imports {names}"


@pytest.mark.parametrize("room", PROTOBUF_FILES)
def test_only_the_files_at_the_border_know_protobuf(room):
    for path in _files(room):
        knows = any("_pb2" in name or name.startswith("google.protobuf") for name in _imports(path))
        assert not knows or path.name in PROTOBUF_FILES[room] or path.name == "grpc_server.py", path.name


def _layer(path: Path) -> int:
    part = path.relative_to(ROOMS["engine_service"]).parts[0].removesuffix(".py")
    found = [index for index, layer in enumerate(ENGINE_LAYERS) if part in layer]
    assert found, f"{part} has no layer: add it to ENGINE_LAYERS"
    return found[0]


def test_engine_files_import_only_from_layers_below():
    for path in _files("engine_service"):
        if path == ROOMS["engine_service"] / "__init__.py":
            continue
        for name in _imports(path):
            parts = name.split(".")
            if parts[0] != "engine_service" or parts[1] == path.stem:
                continue
            below = _layer(ROOMS["engine_service"] / f"{parts[1]}.py")
            same_package = parts[1] == path.parent.name
            assert below < _layer(path) or same_package, f"{path.stem} imports {name}"


def _engine_modules(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("engine_service.")}


def test_torch_stays_out_of_scheduler_and_server():
    without_torch = {stem for layer in ENGINE_LAYERS[:FIRST_LAYER_WITH_TORCH] for stem in layer}
    without_torch |= {"core_main", "core_process", "metrics", "observer", "engine", "server", "__main__"}
    without_torch |= {"conversion", "image_conversion"}
    for stem in sorted(without_torch):
        path = ROOMS["engine_service"] / f"{stem}.py"
        names = _imports(path, ast.Module(_top_level(ast.parse(path.read_text())), []))
        assert "torch" not in {name.split(".")[0] for name in names}, f"{stem} imports torch"
        assert _engine_modules(names) <= without_torch, f"{stem} imports what imports torch"
        late = _engine_modules(_imports(path)) - without_torch
        assert late <= {LATE.get(stem)}, f"{stem} imports {late}"


def test_shelves_are_no_packages():
    for shelf in ("kernels", "clients", "demo", "benchmarks", "protos", "tests"):
        assert not (ROOT / shelf / "__init__.py").exists()
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_test_files_have_unique_stems():
    stems = [path.stem for path in (ROOT / "tests").rglob("*.py") if path.stem != "conftest"]
    assert len(stems) == len(set(stems))
