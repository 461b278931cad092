"""The process of a peer: measures transformers, and writes a line of JSON for each number of sequences."""

import json
import sys
import time
from typing import Any

import torch
import transformers

NUM_EAGER_WARM_UP = 4


def main() -> None:
    """Does the job that the command line holds as JSON."""
    job = json.loads(sys.argv[1])
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        job["directory"], dtype=getattr(torch, job["dtype"])
    )
    model = model.to(job["device"]).eval()
    model.generation_config.eos_token_id = None
    for num_seqs in job["batches"]:
        print(json.dumps(measure(model, job, num_seqs)), flush=True)


def measure(model: Any, job: dict[str, Any], num_seqs: int) -> dict[str, Any]:
    """The fields of PeerBatch."""
    ids = torch.randint(0, job["vocab_size"], (num_seqs, job["num_input"]), device=job["device"])
    num_output = job["num_output"]
    options: dict[str, Any] = {"cache_implementation": "static"} if job["is_compiled"] else {}
    # Compiled, every length is a compilation: the warm-up is a whole run.
    generate(model, ids, num_output if job["is_compiled"] else NUM_EAGER_WARM_UP, options)
    steps_ms, rates = [], []
    for _ in range(job["repetitions"]):
        start_s = time.perf_counter()
        stamps = generate(model, ids, num_output, options)
        rates.append(num_seqs * num_output / (stamps[-1] - start_s))
        steps_ms.append((stamps[-1] - stamps[0]) / (num_output - 1) * 1e3)
    return {"num_seqs": num_seqs, "ms_per_step": steps_ms, "tokens_per_s": rates}


def generate(
    model: Any,
    ids: torch.Tensor,  # [num_seqs, num_input]
    num_output: int,
    options: dict[str, Any],
) -> list[float]:
    """Runs one batch; returns when each of its tokens was there."""
    clock = _Clock(ids)
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=num_output,
        stopping_criteria=transformers.StoppingCriteriaList([clock]),
        **options,
    )
    output.cpu()
    assert len(clock.stamps) == num_output
    return [*clock.stamps[:-1], time.perf_counter()]


class _Clock(transformers.StoppingCriteria):
    """Never stops; transformers asks it after every token."""

    def __init__(self, ids: torch.Tensor) -> None:
        self.stamps: list[float] = []
        self._never = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.stamps.append(time.perf_counter())
        return self._never


if __name__ == "__main__":
    main()
