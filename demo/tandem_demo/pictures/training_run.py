"""One training run: rows in the background, training with checks, checkpoint, a check of what was saved."""

import json
import platform
import time
from dataclasses import asdict

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer

from tandem_demo.pictures.accuracy import as_line, measure
from tandem_demo.pictures.generate import ROWS_A_CHUNK, Generator
from tandem_demo.pictures.loss import Learner
from tandem_demo.pictures.model import load_model, make_model, save_checkpoint
from tandem_demo.pictures.pool import Batch, Pool, to_device
from tandem_demo.pictures.rows import make_held_out
from tandem_demo.pictures.trainer import Progress, TrainConfig, Trainer, take_in
from tandem_demo.pictures.training_options import Options
from tandem_demo.text.grading import Accuracy, as_table


def run(options: Options, tokenizer: Tokenizer, generator: Generator, started: float) -> None:
    """Train, save, log, and check the saved checkpoint; `started` is the `time.monotonic()` to count from."""
    torch.manual_seed(options.seed)
    torch.set_float32_matmul_precision("high")
    device = torch.device(options.device)
    held_out = to_device(make_held_out(tokenizer, options.seed, options.questions), device)
    pool = Pool(max(options.pool, ROWS_A_CHUNK), options.seed, device)
    take_in(generator, pool, 1, wait=True)
    learner = warm_up(options, pool)
    take_in(generator, pool, options.slots)
    print(f"{pool.num_added} rows, ready to train after {time.monotonic() - started:.0f} s", flush=True)
    config = TrainConfig(
        end_time=started + 60 * options.minutes - options.eval_seconds,
        batch_rows=options.batch,
        learning_rate=options.learning_rate,
        num_steps=options.steps,
    )

    def save() -> None:
        num_bytes = save_checkpoint(learner.model, tokenizer, options.out)
        print(f"saved {options.out}: {num_bytes} bytes", flush=True)

    def check() -> None:
        accuracies = measure(Learner(learner.model, compiled=False), held_out, options.questions)
        print(f"held out: {as_line(accuracies)}", flush=True)

    progress = Trainer(learner, generator, pool, config).run(save, check)
    save()
    check()
    generator.stop()
    log = make_log(options, pool.num_added, progress, time.monotonic() - started)
    log["held_out"] = [asdict(item) for item in check_saved(options, held_out)]
    (options.out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    print(f"{progress.num_steps} steps, {time.monotonic() - started:.0f} s in all", flush=True)


def warm_up(options: Options, pool: Pool) -> Learner:
    """The learner after one pass each way; falls back to eager if compiling fails."""
    compiled = options.compile
    while True:
        started = time.monotonic()
        torch.manual_seed(options.seed)
        learner = Learner(make_model(torch.device(options.device)), compiled)
        try:
            with torch.autocast(options.device, torch.bfloat16):
                answers, patches, _ = learner.loss(pool.batch(options.batch))
            torch.autograd.backward(answers + patches)
        except Exception as error:
            if not compiled:
                raise
            print(f"torch.compile failed, training goes on without it: {error}", flush=True)
            compiled = False
            continue
        for parameter in learner.parameters():
            parameter.grad = None
        print(f"warm-up: {time.monotonic() - started:.1f} s, loss {answers.item():.3f}", flush=True)
        return learner


def check_saved(options: Options, held_out: Batch) -> list[Accuracy]:
    """Accuracy of the checkpoint as transformers loads it: with weights rounded to bfloat16."""
    model = load_model(options.out, torch.device(options.device), torch.float32)
    accuracies = measure(Learner(model, compiled=False), held_out, options.questions)
    print(f"held-out accuracy of the saved checkpoint\n{as_table(accuracies)}", flush=True)
    return accuracies


def make_log(options: Options, num_rows_made: int, progress: Progress, seconds: float) -> dict[str, object]:
    """What was run, on what, and how the losses fell."""
    return {
        "options": asdict(options) | {"out": options.out.name},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "steps": progress.num_steps,
        "rows": progress.num_rows,
        "different_rows": num_rows_made,
        "training_seconds": round(progress.seconds, 1),
        "seconds_until_saved": round(seconds, 1),
        "losses": progress.losses[:: max(1, len(progress.losses) // 100)],
    }
