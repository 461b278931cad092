"""Measure held-out accuracy per task through the running services, from encoded PNG and JPEG files.

    python3 -m tandem_demo.pictures.evaluate --target 127.0.0.1:50051

asks `--questions` held-out questions per task with the client library, each about a picture of its own, in
turn a PNG and a JPEG file, prints the table, writes accuracy.json and puts the table into MODEL_CARD.md.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import tandem
from tandem_demo.pictures.drawing import draw
from tandem_demo.pictures.pixels import SIDES, encode
from tandem_demo.pictures.rows import held_out_rng
from tandem_demo.pictures.tasks import GRADED_TASKS, draw_for_task
from tandem_demo.text.grading import Accuracy, as_table, is_right, replace_table

MAX_TOKENS = 192
FORMATS = ("PNG", "JPEG")


@dataclass(frozen=True)
class Question:
    """A held-out question with its picture's file and the one right answer."""

    task: str
    picture: bytes
    text: str
    answer: str


def make_question(task: str, seed: int, index: int) -> Question:
    """Question number `index` of a task."""
    rng = held_out_rng(task, seed, index)
    scene, exchange = draw_for_task(task, rng)
    picture = draw(scene, rng.choice(SIDES))
    data = encode(picture, FORMATS[index % len(FORMATS)], rng.randint(60, 95))
    return Question(task, data, exchange.question, exchange.answer)


def ask(client: tandem.Client, question: Question) -> bool:
    """Whether the greedy answer is the right one."""
    message = tandem.Message("user", [tandem.Image(data=question.picture), question.text])
    answer = client.chat([message], max_tokens=MAX_TOKENS, temperature=0).text
    if not is_right(answer, question.answer):
        print(f"  asked {question.text!r}\n  got   {answer!r}\n  want  {question.answer!r}", flush=True)
        return False
    return True


def measure(client: tandem.Client, num_questions: int, seed: int, concurrency: int) -> list[Accuracy]:
    """Accuracy of every graded task."""
    accuracies: list[Accuracy] = []
    with ThreadPoolExecutor(concurrency) as pool:
        for task in GRADED_TASKS:
            questions = [make_question(task, seed, index) for index in range(num_questions)]
            num_right = sum(pool.map(lambda question: ask(client, question), questions))
            accuracies.append(Accuracy(task, num_right, num_questions))
            print(f"{task}: {accuracies[-1].share:.1%} of {num_questions}", flush=True)
    return accuracies


def write_results(accuracies: list[Accuracy], seed: int, directory: Path) -> None:
    """Write accuracy.json and the table in MODEL_CARD.md, both in `directory`."""
    result = {
        "seed": seed,
        "formats": FORMATS,
        "tasks": [asdict(item) | {"accuracy": item.share} for item in accuracies],
    }
    (directory / "accuracy.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    card = directory / "MODEL_CARD.md"
    card.write_text(replace_table(card.read_text(encoding="utf-8"), as_table(accuracies)), encoding="utf-8")


def main() -> None:
    """Ask, grade, print, write."""
    parser = argparse.ArgumentParser(
        description="Measure the picture demo model's accuracy through the services.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--target", default="127.0.0.1:50051", help="HOST:PORT of the tokenizer service")
    parser.add_argument("--questions", type=int, default=200, help="held-out questions per task")
    parser.add_argument("--concurrency", type=int, default=16, help="questions asked at a time")
    parser.add_argument("--seed", type=int, default=1, help="seed of the questions")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="directory of MODEL_CARD.md")
    options = parser.parse_args()
    with tandem.Client(options.target) as client:
        accuracies = measure(client, options.questions, options.seed, options.concurrency)
    print(as_table(accuracies))
    write_results(accuracies, options.seed, options.out)


if __name__ == "__main__":
    main()
