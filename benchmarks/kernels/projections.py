"""The projections of a decode step: time, percent of the read ceiling, and the time of cuBLAS.

    python -m benchmarks.kernels.projections

Needs an NVIDIA GPU. Beside each operation stands the composition that a user would call: torch's products
(cuBLAS) with this package's norm, rotary and gate kernels around them. The row `step` is the chain of all
projections of all layers and the head, without attention and sampling, as one graph. Rows with TFLOP/s are
the one projection that prompts do not leave to cuBLAS.
"""

from collections.abc import Callable

from benchmarks.kernels.projection_cases import (
    SHAPES,
    Inputs,
    Projection,
    Shape,
    WeightPool,
    projections,
    step,
)
from benchmarks.kernels.timing import median_us, read_bandwidth
from tandem_bench.record import write_result

# Models with measured tiles at all batches, the others where the default tiles are used.
BATCHES = {"Llama-3.2-1B": (1, 2, 4, 8, 16, 32, 64, 128), "Llama-3.1-8B": (1, 2, 4, 8, 16, 32, 64, 128)}
_OTHER_BATCHES = (1, 16)
PROMPTS = (256, 512, 1024, 2048, 3968)


def main() -> None:
    """Measures and writes results/kernels_projections.json."""
    ceiling = read_bandwidth()
    print(f"read: {ceiling / 1e12:.2f} TB/s")
    weights = WeightPool()
    rows = [
        {"model": model, "batch": batch} | row
        for model, shape in SHAPES.items()
        for batch in BATCHES.get(model, _OTHER_BATCHES)
        for row in measure(shape, batch, weights, ceiling)
    ]
    rows += [
        {"model": model, "batch": num_tokens} | measure_prompt(SHAPES[model], num_tokens, weights)
        for model in BATCHES
        for num_tokens in PROMPTS
    ]
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    figures = {"read_tb_per_s": round(ceiling / 1e12, 3), "rows": rows}
    print(write_result("kernels_projections", figures))


def measure(shape: Shape, batch: int, weights: WeightPool, ceiling: float) -> list[dict[str, object]]:
    """Rows of one model and batch; `ceiling` in bytes per second."""
    found = []
    for name, projection in projections(shape).items():
        parts, num_bytes = [projection] * projection.num_calls, projection.num_bytes
        found.append({"operation": name} | _row(parts, batch, weights, num_bytes, ceiling, len(parts)))
    parts = step(shape)
    num_bytes = sum(each.num_bytes for each in parts)
    found.append({"operation": "step"} | _row(parts, batch, weights, num_bytes, ceiling, 1))
    return found


def measure_prompt(shape: Shape, num_tokens: int, weights: WeightPool) -> dict[str, object]:
    """The row of gate and up projections of a prompt."""
    projection = projections(shape)["gate_up"]
    times = _times([projection] * 4, num_tokens, weights, 4)
    rate = 2.0 * num_tokens * projection.num_rows * projection.size / times["us"] / 1e6
    return {"operation": "gate_up", "tflop_per_s": round(rate)} | times


def _row(
    parts: list[Projection], batch: int, weights: WeightPool, num_bytes: int, ceiling: float, num_calls: int
) -> dict[str, object]:
    """Times of all parts in a graph, divided by `num_calls`; bytes are those of the weights."""
    times = _times(parts, batch, weights, num_calls)
    percent = round(num_bytes / times["us"] * 1e6 / ceiling * 100, 1)
    return {"weight_bytes": num_bytes, "percent_of_read": percent} | times


def _times(parts: list[Projection], batch: int, weights: WeightPool, num_calls: int) -> dict[str, float]:
    """Microseconds of all parts in a graph, divided by `num_calls`: ours, and torch's."""
    inputs = {each: Inputs(each, batch) for each in set(parts)}
    ours = [inputs[each].operation(weights.weight(each)) for each in parts]
    torchs = [inputs[each].composed(weights.weight(each)) for each in parts]
    ours_us, torchs_us = (_chain_us(calls) / num_calls for calls in (ours, torchs))
    return {"us": round(ours_us, 2), "torch_us": round(torchs_us, 2)}


def _chain_us(calls: list[Callable[[], object]]) -> float:
    return median_us(calls) * len(calls)


if __name__ == "__main__":
    main()
