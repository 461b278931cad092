"""Figures of others on the same GPU model, measured elsewhere: not in the run of ours beside them."""

VLLM = "vLLM 0.25.1"
SOURCE = (
    "vLLM 0.25.1 (FlashAttention 3, CUDA graphs), measured elsewhere on another H200 with the same shapes "
    "and lengths, 2026-11-22"
)
# By shape, then by measurement; units are those of our measurement of the same name.
PUBLISHED: dict[str, dict[str, float]] = {
    "Llama-3.2-1B": {
        "latency-1": 1.504,
        "latency-16": 1.777,
        "latency-64": 2.275,
        "latency-256": 4.723,
        "mix256": 30590,
        "mix1024": 34684,
        "mix256-top-p": 16387,
        "prefill-1": 204217,
        "start-warm-cache": 57,
    },
    "Llama-3.1-8B": {
        "latency-1": 4.956,
        "latency-16": 5.234,
        "latency-64": 6.417,
        "latency-256": 12.555,
        "mix256": 10163,
        "mix1024": 11845,
        "mix256-top-p": 7708,
        "prefill-1": 41982,
        "prefill-16": 40445,
    },
    # With its prefix cache.
    "LLaVA-1.5-7B": {
        "vision-fresh": 33.2,
        "vision-repeated": 66.9,
        "vision-ttft-fresh": 44,
        "vision-ttft-repeated": 38,
    },
}
# The GPU that they were measured on, as its driver names it.
GPU = "NVIDIA H200"
