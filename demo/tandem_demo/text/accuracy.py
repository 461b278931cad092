"""A quick look at held-out accuracy with transformers, right after training."""

import time
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from tandem_demo.text.grading import ALL_GRADED, Accuracy, Question, grade, is_right, sample_questions
from tandem_demo.text.tokenizer import END_ID, PAD_ID, ROLE_IDS, encode_chat

MAX_NEW_TOKENS = 192


def measure(
    model: LlamaForCausalLM, tokenizer: Tokenizer, num_questions: int, seed: int, end_time: float
) -> list[Accuracy]:
    """Accuracy per task; tasks not begun at `end_time` (`time.monotonic()`) are left out."""
    accuracies: list[Accuracy] = []
    for task in ALL_GRADED:
        if time.monotonic() > end_time:
            break
        questions = sample_questions(task, num_questions, seed)
        answers = answer(model, tokenizer, questions)
        accuracies.append(grade(task, questions, answers))
        print(f"{task}: {accuracies[-1].share:.1%} of {len(questions)}", flush=True)
        _show_mistakes(questions, answers)
    return accuracies


@torch.inference_mode()
def answer(model: LlamaForCausalLM, tokenizer: Tokenizer, questions: list[Question]) -> list[str]:
    """Greedy answers, all questions in one batch padded on the left."""
    prompts = [
        [*encode_chat(tokenizer, question.messages)[0], ROLE_IDS["assistant"]] for question in questions
    ]
    longest = max(map(len, prompts))
    padded = torch.tensor([[PAD_ID] * (longest - len(ids)) + ids for ids in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=model.device)
    generator: Any = model
    outputs = generator.generate(
        input_ids=padded,
        attention_mask=mask,
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
    )
    texts: list[str] = tokenizer.decode_batch(outputs[:, longest:].tolist(), skip_special_tokens=True)
    return texts


def _show_mistakes(questions: list[Question], answers: list[str], at_most: int = 4) -> None:
    pairs = zip(questions, answers, strict=True)
    wrong = [(question, text) for question, text in pairs if not is_right(text, question.answer)]
    for question, text in wrong[:at_most]:
        print(f"  asked {question.messages[-1]['content']!r}\n  got   {text!r}\n  want  {question.answer!r}")
