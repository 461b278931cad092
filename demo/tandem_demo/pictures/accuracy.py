"""Held-out accuracy during training, without generating.

An answer is right if each of its ids is the likeliest one after the ids before it, which is when greedy
generation writes exactly that answer.
"""

import torch

from tandem_demo.pictures.loss import Learner
from tandem_demo.pictures.pool import Batch, part
from tandem_demo.pictures.tasks import GRADED_TASKS
from tandem_demo.text.grading import Accuracy

_ROWS_AT_ONCE = 512


@torch.no_grad()
def measure(learner: Learner, held_out: Batch, num_questions: int) -> list[Accuracy]:
    """Accuracy per task of `make_held_out`'s rows; the learner should not be a compiled one."""
    right = torch.cat(
        [
            _right_rows(learner, part(held_out, start, start + _ROWS_AT_ONCE))
            for start in range(0, len(held_out), _ROWS_AT_ONCE)
        ]
    )
    counts = right.view(len(GRADED_TASKS), num_questions).sum(dim=1).tolist()
    return [
        Accuracy(task, int(count), num_questions) for task, count in zip(GRADED_TASKS, counts, strict=True)
    ]


def _right_rows(learner: Learner, batch: Batch) -> torch.Tensor:
    with torch.autocast(learner.device.type, torch.bfloat16):
        _, _, right = learner.loss(batch)
    all_right: torch.Tensor = (right | ~batch.learnt).all(dim=1)
    return all_right


def as_line(accuracies: list[Accuracy]) -> str:
    """All tasks in one line."""
    return ", ".join(f"{item.task} {item.share:.1%}" for item in accuracies)
