"""The kernels of the vision tower against plain torch in float32."""

import pytest
import torch

from support.kernel_checks import assert_close, dtypes, kernel_device, random_tensor
from tandem_kernels import reference_vision as reference
from tandem_kernels.layer_norm import add_layer_norm, layer_norm
from tandem_kernels.quick_gelu import quick_gelu

DEVICE = kernel_device()
ON_GPU = DEVICE.type == "cuda"
DTYPES = pytest.mark.parametrize("dtype", dtypes(DEVICE))
SIZES = pytest.mark.parametrize("size", [1, 7, 127, 128, 129, *([1024, 1280, 4095] if ON_GPU else [])])
IMAGES = pytest.mark.parametrize("num_images", [1, 2, 32] if ON_GPU else [1, 2])


def _random(*shape, dtype, seed=0):
    return random_tensor(*shape, dtype=dtype, seed=seed, device=DEVICE)


@DTYPES
@SIZES
@IMAGES
def test_layer_norm(num_images, size, dtype):
    # Far from 0, where a variance taken as mean(x²) - mean(x)² would lose its digits.
    x = _random(num_images, 3, size, dtype=dtype) + 30
    weight, bias = (_random(size, dtype=dtype, seed=seed) for seed in (1, 2))
    before = x.clone()
    found = layer_norm(x, weight, bias, 1e-5)
    assert torch.equal(x, before)
    assert_close(found, reference.layer_norm(x.float(), weight.float(), bias.float(), 1e-5), dtype)


@DTYPES
@SIZES
@IMAGES
def test_add_layer_norm_updates_the_residual_and_norms_it(num_images, size, dtype):
    x, residual = (_random(num_images, 3, size, dtype=dtype, seed=seed) for seed in (0, 1))
    weight, bias = (_random(size, dtype=dtype, seed=seed) for seed in (2, 3))
    before, total = x.clone(), x + residual
    found = add_layer_norm(x, residual, weight, bias, 1e-5)
    assert torch.equal(residual, total)
    assert torch.equal(x, before)
    assert_close(found, reference.layer_norm(total.float(), weight.float(), bias.float(), 1e-5), dtype)


@DTYPES
@pytest.mark.parametrize("size", [1, 7, 2047, 2048, 2049, *([577 * 4096] if ON_GPU else [])])
def test_quick_gelu(size, dtype):
    x = 4 * _random(1, size, dtype=dtype)
    assert_close(quick_gelu(x), reference.quick_gelu(x.float()), dtype)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
@DTYPES
def test_quick_gelu_of_large_values_is_zero_or_the_value(dtype):
    x = torch.tensor([-300.0, -150.0, 0.0, 150.0, 300.0], dtype=dtype, device=DEVICE)
    assert torch.equal(quick_gelu(x), x.clamp(min=0))
