"""The training loop: AdamW, warm-up and cosine over a span of time, rows arriving while it runs."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from tandem_demo.pictures.generate import Generator
from tandem_demo.pictures.loss import PATCH_WEIGHT, Learner
from tandem_demo.pictures.pool import Pool


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the schedule follows the clock until `end_time`, or `num_steps` if that is not 0."""

    end_time: float
    """`time.monotonic()` at which training stops."""
    batch_rows: int
    learning_rate: float
    num_steps: int = 0
    weight_decay: float = 0.05
    warmup: float = 0.04
    """Share of the training during which the learning rate rises."""
    log_every: int = 50
    save_every_s: float = 60.0
    check_every_s: float = 30.0
    chunks_a_step: int = 4
    """At most so many chunks of new rows are taken in between two steps."""


@dataclass
class Progress:
    """What training did so far."""

    num_steps: int = 0
    num_rows: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float, float]] = field(default_factory=list)
    """(step, answers' loss, patches' loss) at every log line."""


def learning_rate(config: TrainConfig, done: float) -> float:
    """The rate when `done` (0 to 1) of the training is over."""
    if done < config.warmup:
        return config.learning_rate * max(done / config.warmup, 0.01)
    angle = math.pi * min(1.0, (done - config.warmup) / (1 - config.warmup))
    return config.learning_rate * (0.005 + 0.995 * (1 + math.cos(angle)) / 2)


def make_optimizer(learner: Learner, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; norms, biases and the class embedding do not decay."""
    parameters = learner.parameters()
    groups = [
        {"params": [each for each in parameters if each.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [each for each in parameters if each.dim() <= 1], "weight_decay": 0.0},
    ]
    fused = learner.device.type == "cuda"
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=fused)


def take_in(generator: Generator, pool: Pool, at_most: int, *, wait: bool = False) -> None:
    """Move chunks of rows that are ready into the pool."""
    for rows in generator.ready(at_most, wait=wait):
        pool.add(rows)


class Trainer:
    """One training from the first to the last step."""

    def __init__(self, learner: Learner, generator: Generator, pool: Pool, config: TrainConfig) -> None:
        self._learner, self._generator, self._pool, self._config = learner, generator, pool, config
        self._optimizer, self._parameters = make_optimizer(learner, config), learner.parameters()
        self._started = time.monotonic()
        self.progress = Progress()

    def run(self, save: Callable[[], None], check: Callable[[], None]) -> Progress:
        """Train in place; `save` and `check` are called every now and then."""
        saved = checked = self._started
        while (done := self._done()) < 1:
            take_in(self._generator, self._pool, self._config.chunks_a_step)
            self._step(learning_rate(self._config, done), done)
            now = time.monotonic()
            if now - checked > self._config.check_every_s:
                check()
                checked = now
            if now - saved > self._config.save_every_s:
                save()
                saved = now
        self.progress.seconds = time.monotonic() - self._started
        return self.progress

    def _done(self) -> float:
        done = (time.monotonic() - self._started) / (self._config.end_time - self._started)
        if self._config.num_steps:
            done = max(done, self.progress.num_steps / self._config.num_steps)
        return done

    def _step(self, rate: float, done: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        batch = self._pool.batch(self._config.batch_rows)
        with torch.autocast(self._learner.device.type, torch.bfloat16):
            answers, patches, _ = self._learner.loss(batch)
        torch.autograd.backward(answers + PATCH_WEIGHT * patches)
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.progress.num_steps += 1
        self.progress.num_rows += len(batch)
        if self.progress.num_steps % self._config.log_every == 0:
            self._log(answers.item(), patches.item(), rate, done)

    def _log(self, answers: float, patches: float, rate: float, done: float) -> None:
        progress = self.progress
        progress.seconds = time.monotonic() - self._started
        progress.losses.append((progress.num_steps, round(answers, 4), round(patches, 4)))
        if progress.num_steps % (4 * self._config.log_every) == 0:
            print(
                f"step {progress.num_steps} ({done:.0%}): loss {answers:.4f}, patches {patches:.4f}, "
                f"rate {rate:.2e}, {progress.num_rows / progress.seconds:.0f} rows/s, "
                f"{self._pool.num_added} rows made, {progress.seconds:.0f} s",
                flush=True,
            )
