"""Standard Gumbel noise, computed from (seed, position, token) where it is needed.

The random bits are those of `reference_sample.gumbel`, so a seeded draw on a GPU is the CPU's but for
rounding. A token takes some 35 instructions, 25 of them for the mix of 64 bits.
"""

import triton
import triton.language as tl

# SplitMix64 (Steele, Lea and Flood, 2014).
_GOLDEN = tl.constexpr(0x9E3779B97F4A7C15)
_MIX_1 = tl.constexpr(0xBF58476D1CE4E5B9)
_MIX_2 = tl.constexpr(0x94D049BB133111EB)
_LOG2_E = tl.constexpr(1.4426950408889634)
_IS_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def noise_key(seed_low: tl.tensor, seed_high: tl.tensor, position: tl.tensor) -> tl.tensor:  # uint64
    """Key of the noise of one draw; the seed comes in two int32 halves."""
    seed = seed_high.to(tl.uint32, bitcast=True).to(tl.uint64) << 32
    seed += seed_low.to(tl.uint32, bitcast=True).to(tl.uint64)
    return _mix(seed + _mix(position.to(tl.uint64) * _GOLDEN))


@triton.jit
def perturb(x: tl.tensor, key: tl.tensor, tokens: tl.tensor) -> tl.tensor:  # float32, shaped like tokens
    """x plus the noise of `tokens`, all in units of ln(2); and plus a constant, which no argmax sees."""
    bits = _high_word_of_mix(key + _GOLDEN + tokens.to(tl.uint64) * _GOLDEN)
    uniform = tl.minimum(bits.to(tl.float32) * (2.0**-32) + 2.0**-33, 1 - 2.0**-24)
    # log2(1 - uniform): near 0, where 1 - uniform would lose it, by the beginning of its series.
    series = (((-_LOG2_E / 4 * uniform - _LOG2_E / 3) * uniform - _LOG2_E / 2) * uniform - _LOG2_E) * uniform
    return x - _log2(tl.abs(tl.where(uniform < 2.0**-5, series, _log2(1 - uniform))))


@triton.jit
def _mix(x: tl.tensor) -> tl.tensor:
    """SplitMix64's finalizer."""
    x = (x ^ (x >> 30)) * _MIX_1
    x = (x ^ (x >> 27)) * _MIX_2
    return x ^ (x >> 31)


@triton.jit
def _high_word_of_mix(x: tl.tensor) -> tl.tensor:  # uint32
    """The upper half of `_mix`, whose last step and conversion to float are cheaper on 32 bits."""
    x = (x ^ (x >> 30)) * _MIX_1
    high = (((x ^ (x >> 27)) * _MIX_2) >> 32).to(tl.uint32)
    return high ^ (high >> 31)


@triton.jit
def _log2(x: tl.tensor) -> tl.tensor:
    """One instruction with an error of 2^-22, where `tl.log2` takes 20 instructions."""
    if _IS_INTERPRETED:
        return tl.log2(x)
    else:  # noqa: RET505 - a branch of constants, of which Triton compiles one
        return tl.inline_asm_elementwise(
            "lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
