"""The training loop: AdamW, warm-up and cosine over a number of steps or a span of time."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from transformers import LlamaForCausalLM

from tandem_demo.text.batches import Batches
from tandem_demo.text.loss import Loss, make_loss


@dataclass(frozen=True)
class TrainConfig:
    """How to train; with `num_steps` 0 the schedule follows the clock until `end_time`."""

    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    warmup: float = 0.03
    """Share of the training during which the learning rate rises."""
    num_steps: int = 0
    end_time: float = math.inf
    """`time.monotonic()` at which training stops whatever `num_steps` says."""
    log_every: int = 20
    save_every_s: float = 60.0


@dataclass
class Progress:
    """What training did so far."""

    num_steps: int = 0
    num_places: int = 0
    """Tokens with padding."""
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    """(step, loss) at every log line."""


def learning_rate(config: TrainConfig, done: float) -> float:
    """The rate when `done` (0 to 1) of the training is over."""
    if done < config.warmup:
        return config.learning_rate * max(done / config.warmup, 0.01)
    angle = math.pi * min(1.0, (done - config.warmup) / (1 - config.warmup))
    return config.learning_rate * (0.01 + 0.99 * (1 + math.cos(angle)) / 2)


def make_optimizer(model: LlamaForCausalLM, config: TrainConfig, device: torch.device) -> torch.optim.AdamW:
    """AdamW; norm weights do not decay."""
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=device.type == "cuda")


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 arithmetic over float32 weights."""
    return torch.autocast(device.type, torch.bfloat16)


def warm_up(model: LlamaForCausalLM, batches: Batches, device: torch.device, compiled: bool) -> Loss:
    """The loss, after one backward pass at every row length; falls back to eager if compiling fails."""
    loss = make_loss(model, compiled)
    try:
        for ids, marks in batches.one_of_each():
            started = time.monotonic()
            with autocast(device):
                value = loss(ids, marks)
            torch.autograd.backward(value)
            print(
                f"warm-up: {tuple(ids.shape)} loss {value.item():.3f}, {time.monotonic() - started:.1f} s",
                flush=True,
            )
    except Exception as error:
        if not compiled:
            raise
        print(f"torch.compile failed, training goes on without it: {error}", flush=True)
        return warm_up(model, batches, device, compiled=False)
    model.zero_grad(set_to_none=True)
    return loss


def train(
    model: LlamaForCausalLM, loss: Loss, batches: Batches, config: TrainConfig, save: Callable[[], None]
) -> Progress:
    """Train in place; `save` is called about every `save_every_s` seconds."""
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, config, device)
    progress, started = Progress(), time.monotonic()
    saved = started
    for ids, marks in batches:
        now = time.monotonic()
        done = (now - started) / (config.end_time - started)
        if config.num_steps:
            done = max(done, progress.num_steps / config.num_steps)
        if done >= 1:
            break
        rate = learning_rate(config, done)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with autocast(device):
            value = loss(ids, marks)
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.num_steps += 1
        progress.num_places += ids.numel()
        if progress.num_steps % config.log_every == 0:
            progress.seconds = time.monotonic() - started
            progress.losses.append((progress.num_steps, round(value.item(), 4)))
            if progress.num_steps % (10 * config.log_every) == 0:
                _print(progress, rate, done)
        if now - saved > config.save_every_s:
            save()
            saved = now
    progress.seconds = time.monotonic() - started
    return progress


def _print(progress: Progress, rate: float, done: float) -> None:
    recent = [loss for _, loss in progress.losses[-10:]]
    print(
        f"step {progress.num_steps} ({done:.0%}): loss {sum(recent) / len(recent):.4f}, rate {rate:.2e}, "
        f"{progress.num_places / progress.seconds / 1e6:.2f} M tokens/s, {progress.seconds:.0f} s",
        flush=True,
    )
