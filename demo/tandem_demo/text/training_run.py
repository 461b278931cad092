"""One training run: data, training, checkpoint, then evaluation in the time that is left."""

import json
import platform
import time
from dataclasses import asdict

import tokenizers
import torch
import transformers
from transformers import LlamaForCausalLM

from tandem_demo.text.accuracy import measure
from tandem_demo.text.batches import Batches
from tandem_demo.text.generate import generate_rows
from tandem_demo.text.grading import as_table
from tandem_demo.text.model import CONTEXT_LENGTH, load_model, make_model, save_checkpoint
from tandem_demo.text.packing import Rows
from tandem_demo.text.tokenizer import train_tokenizer
from tandem_demo.text.trainer import Progress, TrainConfig, train, warm_up
from tandem_demo.text.training_options import Options


def run(options: Options) -> None:
    """Make data, train, save, log, evaluate; checkpoint and log are written before the evaluation."""
    started = time.monotonic()
    end_time = started + 60 * options.minutes
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    tokenizer, rows = _make_data(options)
    print(f"data: {_sizes(rows)} rows by length, {time.monotonic() - started:.0f} s", flush=True)
    device = torch.device(options.device)
    model = make_model(device)
    batches = Batches(rows, options.batch * CONTEXT_LENGTH, options.seed, device)
    loss = warm_up(model, batches, device, options.compile)
    config = TrainConfig(
        learning_rate=options.learning_rate, num_steps=options.steps, end_time=end_time - options.eval_seconds
    )
    progress = train(model, loss, batches, config, lambda: _save(options, model, tokenizer))
    _save(options, model, tokenizer)
    log = make_log(options, rows, progress, time.monotonic() - started)
    _write_log(options, log)
    _evaluate(options, tokenizer, log, end_time)
    print(f"{progress.num_steps} steps, {time.monotonic() - started:.0f} s in all", flush=True)


def _make_data(options: Options) -> tuple[tokenizers.Tokenizer, dict[int, Rows]]:
    tokenizer = train_tokenizer(options.seed)
    rows = generate_rows(
        tokenizer, options.seed, options.conversations, options.processes, limit_s=options.data_seconds
    )
    return tokenizer, rows


def _sizes(rows: dict[int, Rows]) -> dict[int, int]:
    return {length: len(group.ids) for length, group in rows.items()}


def _save(options: Options, model: LlamaForCausalLM, tokenizer: tokenizers.Tokenizer) -> None:
    num_bytes = save_checkpoint(model, tokenizer, options.out)
    print(f"saved {options.out}: {num_bytes} bytes of weights", flush=True)


def _evaluate(
    options: Options, tokenizer: tokenizers.Tokenizer, log: dict[str, object], end_time: float
) -> None:
    """Measure the saved checkpoint with float32, then with bfloat16 arithmetic; add both to the log."""
    for dtype in (torch.float32, torch.bfloat16):
        model = load_model(options.out, torch.device(options.device), dtype)
        accuracies = measure(model, tokenizer, options.questions, options.seed, end_time)
        name = str(dtype).removeprefix("torch.")
        print(f"held-out accuracy in {name}\n{as_table(accuracies)}", flush=True)
        log[f"held_out_{name}"] = [asdict(accuracy) for accuracy in accuracies]
        _write_log(options, log)


def make_log(
    options: Options, rows: dict[int, Rows], progress: Progress, seconds: float
) -> dict[str, object]:
    """What was run, on what, and how the loss fell."""
    return {
        "options": asdict(options) | {"out": options.out.name},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "rows_by_length": _sizes(rows),
        "steps": progress.num_steps,
        "tokens_with_padding": progress.num_places,
        "training_seconds": round(progress.seconds, 1),
        "seconds_until_saved": round(seconds, 1),
        "losses": progress.losses[:: max(1, len(progress.losses) // 100)],
    }


def _write_log(options: Options, log: dict[str, object]) -> None:
    (options.out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n")
