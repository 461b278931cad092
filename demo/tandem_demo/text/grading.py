"""Held-out questions, exact grading and the accuracy table."""

from dataclasses import dataclass
from random import Random

from tandem_demo.text.chats import GRADED_TASKS, MULTI_TURN_TASK, TASKS, Message, make_exchanges

ALL_GRADED = (*GRADED_TASKS, MULTI_TURN_TASK)
BEGIN_MARK, END_MARK = "<!-- accuracy:begin -->", "<!-- accuracy:end -->"


@dataclass(frozen=True)
class Question:
    """A held-out prompt and the one right answer."""

    task: str
    messages: tuple[Message, ...]
    answer: str


@dataclass(frozen=True)
class Accuracy:
    """How many of a task's questions were answered exactly."""

    task: str
    num_right: int
    num_questions: int

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.num_right / self.num_questions


def sample_questions(task: str, num_questions: int, seed: int) -> list[Question]:
    """Different held-out questions of one task; `multi_turn` asks one after a few other exchanges."""
    rng = Random(f"{task} {seed}")
    questions: dict[str, Question] = {}
    while len(questions) < num_questions:
        messages: list[Message] = []
        if task == MULTI_TURN_TASK:
            for _ in range(rng.randint(1, 5)):
                messages += _exchanges_as_messages(rng, rng.choice(TASKS), first_only=False)
        last = rng.choice(GRADED_TASKS) if task == MULTI_TURN_TASK else task
        messages += _exchanges_as_messages(rng, last, first_only=task != MULTI_TURN_TASK)
        question = Question(task, tuple(messages[:-1]), messages[-1]["content"])
        questions.setdefault(str(question.messages), question)
    return list(questions.values())


def _exchanges_as_messages(rng: Random, task: str, first_only: bool) -> list[Message]:
    exchanges = make_exchanges(rng, task, held_out=True)
    messages: list[Message] = []
    for exchange in exchanges[:1] if first_only else exchanges:
        messages.append({"role": "user", "content": exchange.question})
        messages.append({"role": "assistant", "content": exchange.answer})
    return messages


def is_right(answer: str, expected: str) -> bool:
    """Exactly the expected text; white space around it does not count."""
    return answer.strip() == expected.strip()


def grade(task: str, questions: list[Question], answers: list[str]) -> Accuracy:
    """Accuracy of one answer per question."""
    num_right = sum(
        is_right(answer, question.answer) for question, answer in zip(questions, answers, strict=True)
    )
    return Accuracy(task, num_right, len(questions))


def as_table(accuracies: list[Accuracy]) -> str:
    """A Markdown table, one task a row."""
    lines = ["| task | right | of | accuracy |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {item.task.replace('_', ' ')} | {item.num_right} | {item.num_questions} | {item.share:.1%} |"
        for item in accuracies
    ]
    return "\n".join(lines)


def replace_table(card: str, table: str) -> str:
    """The card's text with everything between the two marks replaced.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = card.partition(BEGIN_MARK)
    _, end, after = rest.partition(END_MARK)
    if not begin or not end:
        raise ValueError(f"the model card needs the marks {BEGIN_MARK!r} and {END_MARK!r} in this order")
    return f"{before}{begin}\n{table}\n{end}{after}"
