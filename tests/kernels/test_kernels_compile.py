"""Every kernel compiles for Ampere and Hopper without a GPU and fits: shared memory, registers, spills."""

import importlib
import os
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import tandem_kernels
from support.kernel_signatures import CASES, MAX_SHARED_BYTES, KernelCase

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter is on: nothing compiles", allow_module_level=True)

PTXAS = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
ARCHITECTURES = {80: "sm_80", 90: "sm_90a"}
REGISTERS_OF_AN_SM = 65_536


def _compile(case: KernelCase, capability: int):
    constants = case.constants
    if "IS_DEPENDENT" in case.kernel.arg_names:
        constants = {"IS_DEPENDENT": capability >= 90} | constants
    names = [name for name in case.kernel.arg_names if name not in constants]
    types = dict(zip(names, case.types.split(), strict=True))
    signature = {name: types.get(name, "constexpr") for name in case.kernel.arg_names}
    multiples = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(signature)
        if signature[name] not in ("constexpr", "fp32") and name not in case.unspecialized
    }
    return triton.compile(
        ASTSource(case.kernel, signature, constants, multiples),
        target=GPUTarget("cuda", capability, 32),
        options={
            "num_warps": case.num_warps,
            "num_stages": case.num_stages,
            "maxnreg": case.max_registers,
        },
    )


@pytest.mark.parametrize(
    ("case", "capability"),
    [
        pytest.param(case, capability, id=f"{case.name}-{ARCHITECTURES[capability]}")
        for case in CASES
        for capability in case.capabilities
    ],
)
def test_fits(case, capability, tmp_path):
    compiled = _compile(case, capability)
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= MAX_SHARED_BYTES[capability]
    ptx = tmp_path / "kernel.ptx"
    ptx.write_text(compiled.asm["ptx"])
    command = [PTXAS, "-v", f"-arch={ARCHITECTURES[capability]}", ptx, "-o", tmp_path / "kernel.cubin"]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = [int(count) for count in re.findall(r"(\d+) bytes spill", report)]
    assert len(spilled) == 2, report
    assert max(spilled) <= case.max_spill_bytes, report
    registers = re.search(r"Used (\d+) registers", report)
    assert registers is not None, report
    assert int(registers[1]) * case.num_warps * 32 <= REGISTERS_OF_AN_SM


def test_every_kernel_has_a_case():
    modules = [
        importlib.import_module(f"tandem_kernels.{module.name}")
        for module in pkgutil.iter_modules(tandem_kernels.__path__)
    ]
    kernels = {name for module in modules for name in vars(module) if name.endswith("_kernel")}
    assert kernels == {case.kernel.__name__ for case in CASES}
