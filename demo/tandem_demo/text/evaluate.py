"""Measure held-out accuracy per task through the running services.

    python3 -m tandem_demo.text.evaluate --target 127.0.0.1:50051

asks `--questions` held-out questions per task with the client library, prints the table, writes accuracy.json
and puts the table into MODEL_CARD.md, both beside the package's model directory.
"""

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import tandem
from tandem_demo import MODEL_DIR
from tandem_demo.text.chats import Message
from tandem_demo.text.grading import (
    ALL_GRADED,
    Accuracy,
    as_table,
    grade,
    replace_table,
    sample_questions,
)

MAX_TOKENS = 192

Answer = Callable[[list[list[Message]]], list[str]]


def answer_through(client: tandem.Client, concurrency: int) -> Answer:
    """A function that has chats answered greedily, `concurrency` at a time, in order."""

    def one(messages: list[Message]) -> str:
        return client.chat(messages, max_tokens=MAX_TOKENS, temperature=0).text

    def answer(prompts: list[list[Message]]) -> list[str]:
        with ThreadPoolExecutor(concurrency) as pool:
            return list(pool.map(one, prompts))

    return answer


def measure(answer: Answer, num_questions: int, seed: int) -> list[Accuracy]:
    """Accuracy of every graded task."""
    accuracies: list[Accuracy] = []
    for task in ALL_GRADED:
        questions = sample_questions(task, num_questions, seed)
        answers = answer([list(question.messages) for question in questions])
        accuracies.append(grade(task, questions, answers))
        print(f"{task}: {accuracies[-1].share:.1%} of {len(questions)}", flush=True)
    return accuracies


def write_results(accuracies: list[Accuracy], seed: int, directory: Path) -> None:
    """Write accuracy.json and the table in MODEL_CARD.md, both in `directory`."""
    result = {"seed": seed, "tasks": [asdict(item) | {"accuracy": item.share} for item in accuracies]}
    (directory / "accuracy.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    card = directory / "MODEL_CARD.md"
    card.write_text(replace_table(card.read_text(encoding="utf-8"), as_table(accuracies)), encoding="utf-8")


def main() -> None:
    """Ask, grade, print, write."""
    parser = argparse.ArgumentParser(
        description="Measure the text demo model's accuracy through the services.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--target", default="127.0.0.1:50051", help="HOST:PORT of the tokenizer service")
    parser.add_argument("--questions", type=int, default=200, help="held-out questions per task")
    parser.add_argument("--concurrency", type=int, default=32, help="questions asked at a time")
    parser.add_argument("--seed", type=int, default=1, help="seed of the questions")
    parser.add_argument("--out", type=Path, default=MODEL_DIR.parent, help="directory of MODEL_CARD.md")
    options = parser.parse_args()
    with tandem.Client(options.target) as client:
        accuracies = measure(answer_through(client, options.concurrency), options.questions, options.seed)
    print(as_table(accuracies))
    write_results(accuracies, options.seed, options.out)


if __name__ == "__main__":
    main()
