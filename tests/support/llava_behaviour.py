"""Pictures and words beside transformers' LLaVA, on small random models.

Tests of any device: a directory's conftest says with `local_core` which cores they get.
"""

import json
import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine_service.sampling_params import SamplingParams
from engine_service.sequence import SequenceSpec
from support.checkpoints import save
from support.pictures import llava_ids, llava_logprobs, picture, prompt_of, put, random_llava, sha256

GREEDY = SamplingParams(temperature=0.0)
A, B, C = (picture(number) for number in range(3))
PROMPTS = {
    "text-only": [5, 6, 7],
    "first": [A, 5, 6],
    "last": [5, 6, A],
    "middle": [5, 6, 7, A, 8, 9],
    "alone": [B],
    "two": [5, A, 6, B, 7],
    "two-adjacent": [A, B, 4],
    "three": [1, A, 2, B, 3, C, 4],
    "repeated": [A, 9, A, 8, B, A],
}
KINDS = {
    "gqa": {},
    "tied": {"text": {"tie_word_embeddings": True}},
    "full": {"vision_feature_select_strategy": "full"},
    "first-layer": {"vision_feature_layer": 1},
    "last-layer": {"vision_feature_layer": -1},
    "gelu-no-bias": {"vision": {"hidden_act": "gelu"}, "multimodal_projector_bias": False},
    "image-30-patch-7": {"vision": {"image_size": 30}},
    "image-32-patch-8": {"vision": {"image_size": 32, "patch_size": 8, "num_hidden_layers": 5}},
}


def spec_of(parts, max_tokens=12, num_features=16, **fields):
    ids, images = prompt_of(parts, num_features)
    return SequenceSpec(ids, max_tokens, GREEDY, images=images, **fields)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return random_llava()


@pytest.fixture(scope="module")
def llava(model, tmp_path_factory):
    return save(model, tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def expected(model):
    return {name: llava_ids(model, parts, 12) for name, parts in PROMPTS.items()}


def assert_prompts_equal(core, model, parts_of, num_features=16):
    """Runs all prompts in one batch, and compares ids and log-probabilities with the model's."""
    for number, parts in enumerate(parts_of):
        put(core, *(part for part in parts if isinstance(part, torch.Tensor)))
        core.submit(number, spec_of(parts, 12, num_features, logprobs=2, prompt_logprobs=1))
    core.run()
    for number, parts in enumerate(parts_of):
        ids, _ = prompt_of(parts, num_features)
        output = core.tokens[number]
        assert output == llava_ids(model, parts, 12, num_features)
        logprobs = llava_logprobs(model, parts, output, num_features)
        chosen = logprobs[:-1].gather(1, torch.tensor([*ids, *output])[1:, None]).squeeze(1)
        found = torch.tensor(core.prompt_logprobs[number].logprobs + core.logprobs[number].logprobs)
        torch.testing.assert_close(found, chosen, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_logprobs_equal_transformers(local_core, tmp_path, kind):
    torch.manual_seed(1)
    model = random_llava(**KINDS[kind])
    core = local_core(save(model, tmp_path), max_prefill_tokens=23, max_num_seqs=16, image_cache_mib=1)
    size = model.config.vision_config.image_size
    again = {id(old): picture(number, size) for number, old in enumerate((A, B, C))}
    parts_of = [[again.get(id(part), part) for part in parts] for parts in PROMPTS.values()]
    assert_prompts_equal(core, model, parts_of, core.info.vision.num_features)


def _rename(directory, rules):
    path = directory / "model.safetensors"
    tensors = {}
    for name, tensor in load_file(path).items():
        for old, new in rules:
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        tensors[name] = tensor
    save_file(tensors, path)
    return set(tensors)


LAYOUTS = {
    "hub": [("vision_tower.", "vision_tower.vision_model.")],
    "transformers-4.52": [
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head.", "lm_head."),
        ("vision_tower.", "model.vision_tower.vision_model."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
    ],
    "transformers-5": [
        ("language_model.model.", "model.language_model."),
        ("language_model.lm_head.", "lm_head."),
        ("vision_tower.", "model.vision_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_found_under_old_and_new_names(local_core, model, expected, tmp_path, layout):
    save(model, tmp_path)
    names = _rename(tmp_path, LAYOUTS[layout])
    assert any(name.startswith(LAYOUTS[layout][0][1]) for name in names)
    core = local_core(tmp_path)
    put(core, A, B, C)
    assert core.generate(spec_of(PROMPTS["three"])) == expected["three"]


def test_layers_that_never_run_need_not_be_there(local_core, model, expected, tmp_path):
    save(model, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if "post_layernorm" not in name and "vision_tower.encoder.layers.2." not in name
    }
    assert len(kept) == len(tensors) - 18
    save_file(kept, path)
    core = local_core(tmp_path)
    put(core, A)
    assert core.generate(spec_of(PROMPTS["first"])) == expected["first"]


def test_a_checkpoint_without_its_projector_is_refused_by_name(local_core, model, tmp_path):
    save(model, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    del tensors["multi_modal_projector.linear_2.weight"]
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"multi_modal_projector\.linear_2\.weight"):
        local_core(tmp_path)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_pixels_are_normalized_as_the_processor_says(local_core, model, tmp_path, name, monkeypatch):
    save(model, tmp_path)
    wanted = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    nested = {"image_processor": wanted}
    (tmp_path / name).write_text(json.dumps(nested if name.startswith("processor") else wanted))
    mean, std = (torch.tensor(wanted[field]) for field in ("image_mean", "image_std"))
    import support.pictures as pictures

    plain = pictures.pixel_values
    monkeypatch.setattr(pictures, "pixel_values", lambda images: plain(images, mean, std))
    core = local_core(tmp_path)
    assert_prompts_equal(core, model, [PROMPTS["two"]])


@pytest.mark.parametrize("block_size", [1, 16], ids=["block1", "block16"])
@pytest.mark.parametrize("chunk", [3, 7, 64])
def test_chunks_may_cut_inside_an_image(local_core, llava, expected, chunk, block_size):
    core = local_core(llava, max_prefill_tokens=chunk, kv_block_size=block_size)
    put(core, A, B, C)
    for number, parts in enumerate(PROMPTS.values()):
        core.submit(number, spec_of(parts))
    core.run()
    assert {name: core.tokens[number] for number, name in enumerate(PROMPTS)} == expected


def test_the_same_whether_an_image_is_fresh_cached_or_shared_and_nothing_is_computed_twice(
    local_core, llava, expected
):
    core = local_core(llava, prefix_caching=False)
    put(core, A, B, C)
    assert core.generate(spec_of(PROMPTS["three"])) == expected["three"]
    assert core.images.num_computed == 3
    for name in ("three", "middle", "two"):
        assert core.generate(spec_of(PROMPTS[name])) == expected[name]
    first = len(core.tokens)
    for number in range(first, first + 16):
        core.submit(number, spec_of(PROMPTS["repeated"]))
    core.run()
    assert all(core.tokens[number] == expected["repeated"] for number in range(first, first + 16))
    assert core.images.num_computed == 3


def test_sixteen_requests_at_once_compute_a_fresh_image_once(local_core, llava, expected):
    core = local_core(llava, prefix_caching=False, max_prefill_tokens=50)
    put(core, A)
    for number in range(16):
        core.submit(number, spec_of(PROMPTS["middle"]))
    core.run()
    assert all(core.tokens[number] == expected["middle"] for number in range(16))
    assert core.images.num_computed == 1


def test_the_same_after_forced_preemption_without_computing_an_image_again(local_core, llava, expected):
    core = local_core(llava, kv_block_size=1, num_blocks=150, context_length=128, prefix_caching=False)
    put(core, A, B, C)
    for number, parts in enumerate(PROMPTS.values()):
        core.submit(number, spec_of(parts))
    core.run()
    assert core.scheduler.num_preemptions > 0
    assert {name: core.tokens[number] for number, name in enumerate(PROMPTS)} == expected
    assert core.images.num_computed == 3


def test_the_prefix_cache_tells_images_apart(local_core, llava, model):
    core = local_core(llava, kv_block_size=4)
    put(core, A, B)
    for number, image in enumerate((A, B, A)):
        core.submit(number, spec_of([5, 6, image, 8, 9]))
        core.run()
        assert core.tokens[number] == llava_ids(model, [5, 6, image, 8, 9], 12)
    assert [core.started[number].num_cached for number in range(3)] == [0, 0, 16]


def test_the_prefix_cache_tells_the_order_of_images_apart(local_core, llava, model):
    core = local_core(llava, kv_block_size=8)
    put(core, A, B)
    for parts, num_cached in (([A, B, 4], 0), ([B, A, 4], 0), ([A, A, 4], 16), ([A, B, 4], 32)):
        number = len(core.tokens)
        assert core.generate(spec_of(parts)) == llava_ids(model, parts, 12)
        assert core.started[number].num_cached == num_cached


def test_an_image_behind_a_prefix_hit_is_not_computed(local_core, llava):
    core = local_core(llava, kv_block_size=1)
    put(core, A)
    core.generate(spec_of([A, 8, 9]))
    core.generate(spec_of([A, 8, 9, 10]))
    assert core.started[1].num_cached == 18
    assert core.images.num_computed == 1


@pytest.mark.parametrize("seed", range(2))
def test_the_same_in_random_company_with_cancels_and_little_memory_for_anything(
    local_core, llava, model, seed
):
    rng = random.Random(seed)
    block_size = rng.choice((1, 4))
    core = local_core(
        llava, kv_block_size=block_size, context_length=128, num_blocks=160 // block_size, max_num_seqs=6,
        max_prefill_tokens=rng.choice((9, 50, 200)), image_pixels_mib=0,
    )  # fmt: skip
    core.images.num_slots, core.images._free_slots = 2, [1, 0]
    pool = [picture(number) for number in range(5)]
    prompts = [[5, pool[at], 6] for at in range(5)] + [[pool[at], 7, pool[at - 1]] for at in range(5)]
    prompts.append([5, 6, 7])
    by_hash = {sha256(image): image for image in pool}
    chosen, cancelled = {}, set()
    while len(chosen) < 40 or core.is_busy:
        for number in range(len(chosen), min(40, len(chosen) + rng.randint(0, 4))):
            chosen[number] = rng.randrange(len(prompts))
            core.submit(number, spec_of(prompts[chosen[number]]))
        if rng.random() < 0.1 and (left := sorted(chosen.keys() - core.finished.keys() - cancelled)):
            cancelled.add(victim := rng.choice(left))
            core.end(victim)
        needed, core.needed_images = core.needed_images, []
        put(core, *(by_hash[each] for each in needed))
        if core.is_busy:
            core.step()
    expected = [llava_ids(model, parts, 12) for parts in prompts]
    for number in chosen.keys() - cancelled:
        assert core.tokens[number] == expected[chosen[number]]
    assert core.scheduler.load.num_free_blocks == core.scheduler.load.num_blocks
    assert core.images.num_computed > 5


def test_features_give_way_within_their_budget_and_are_computed_again(local_core, tmp_path):
    torch.manual_seed(2)
    model = random_llava(
        text={"hidden_size": 256, "head_dim": 64, "max_position_embeddings": 1024},
        vision={"image_size": 64, "patch_size": 4},
    )
    core = local_core(save(model, tmp_path), image_cache_mib=1, prefix_caching=False, max_prefill_tokens=1100)
    assert core.info.vision.max_images == 4
    pictures = [picture(number, 64) for number in range(6)]
    put(core, *pictures)
    for number in range(12):
        core.submit(number, spec_of([3, pictures[number % 6], number], 6, 256))
    core.run()
    for number in range(12):
        assert core.tokens[number] == llava_ids(model, [3, pictures[number % 6], number], 6, 256)
    assert core.images.num_computed > 6
