"""Greedy ids and log-probabilities beside those of transformers, on small random models."""

import torch

from engine_service.sampling_params import SamplingParams
from engine_service.sequence import SequenceSpec
from support.checkpoints import greedy_ids, random_model, save

GREEDY = SamplingParams(temperature=0.0)
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SHAPES = {
    "llama-mha": ("llama", {"num_key_value_heads": 4}),
    "llama-gqa2-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-gqa7": ("llama", {"num_attention_heads": 7, "num_key_value_heads": 1, "hidden_size": 112}),
    "llama-head64": ("llama", {"head_dim": 64}),
    "llama-head80": ("llama", {"head_dim": 80}),
    "llama3-rope": ("llama", {"rope_parameters": LLAMA3_ROPE}),
    "mistral": ("mistral", {}),
    "qwen2-gqa2": ("qwen2", {}),
    "qwen2-gqa7-head64-tied": (
        "qwen2",
        {
            "num_attention_heads": 7,
            "num_key_value_heads": 1,
            "head_dim": 64,
            "hidden_size": 448,
            "tie_word_embeddings": True,
        },
    ),
    "qwen2-mha-llama3-rope": ("qwen2", {"num_key_value_heads": 4, "rope_parameters": LLAMA3_ROPE}),
    "qwen3-gqa2": ("qwen3", {}),
    "qwen3-gqa7-head80-tied": (
        "qwen3",
        {
            "num_attention_heads": 7,
            "num_key_value_heads": 1,
            "head_dim": 80,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3-mha-head64": ("qwen3", {"num_key_value_heads": 4, "head_dim": 64}),
}
PROMPT_LENGTHS = (1, 2, 15, 16, 17, 61)


def _prompts(vocab_size: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randint(0, vocab_size, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS
    ]


def assert_equal_to_transformers(local_core, directory, shape, block_size):
    """Compares a model of SHAPES on a core of its own; every prompt runs in one batch, most in chunks."""
    family, changes = SHAPES[shape]
    model = random_model(family, **changes)
    core = local_core(save(model, directory), kv_block_size=block_size, max_prefill_tokens=24, max_num_seqs=8)
    prompts = _prompts(model.config.vocab_size)
    for number, prompt in enumerate(prompts):
        spec = SequenceSpec(tuple(prompt), 24, GREEDY, logprobs=3, prompt_logprobs=2)
        core.submit(number, spec)
    core.run()
    for number, prompt in enumerate(prompts):
        assert core.tokens[number] == greedy_ids(model, prompt, 24)
        _compare_logprobs(model, core, number, prompt)


@torch.inference_mode()
def _compare_logprobs(model, core, number, prompt):
    ids = prompt + core.tokens[number]
    expected = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    chosen = expected[:-1].gather(1, torch.tensor(ids[1:]).unsqueeze(1)).squeeze(1)
    prompt_part, output_part = chosen[: len(prompt) - 1], chosen[len(prompt) - 1 :]
    for entries, part in (
        (core.prompt_logprobs[number], prompt_part),
        (core.logprobs[number], output_part),
    ):
        torch.testing.assert_close(torch.tensor(entries.logprobs), part, atol=1e-4, rtol=0)
    top = expected[len(prompt) - 1 : -1].topk(3)
    found = torch.tensor(core.logprobs[number].candidate_logprobs).view(-1, 3)
    torch.testing.assert_close(found, top.values, atol=1e-4, rtol=0)
    assert core.logprobs[number].candidate_tokens == top.indices.flatten().tolist()
