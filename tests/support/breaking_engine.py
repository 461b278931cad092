"""`python -m support.breaking_engine`: the engine service, whose device one prompt breaks for good.

On a GPU a kernel reads far outside of its tensor, so that CUDA gives the process up. On a CPU nothing
breaks for good, so there the error is made up.
"""

import sys

import torch

from engine_service import __main__, core_main, core_process, model_runner
from engine_service.device import DeviceError
from engine_service.model_runner import ModelRunner

POISON = (66, 6, 66)


def break_device(device):
    """Starts work that the device does not survive; returns at once."""
    if device.type == "cuda":
        torch.zeros(4, device=device)[torch.full((4,), 1 << 40, device=device)].sum()
        return

    def check_device(_device):
        raise DeviceError("cpu is lost: a test broke it")

    model_runner.check_device = check_device
    raise RuntimeError("the CPU broke")


def poison_runner():
    """From now on, launching a sequence with the prompt POISON breaks the device behind the launch."""
    launch = ModelRunner.launch

    def breaking(self, plan):
        launched = launch(self, plan)
        if any(sequence.spec.token_ids == POISON for sequence in plan.drawing()):
            break_device(self._device)
        return launched

    ModelRunner.launch = breaking


def main(config, pipe):
    """The entry point of the core process, in place of core_main.main."""
    poison_runner()
    _main(config, pipe)


_main = core_main.main

if __name__ == "__main__":
    core_process.core_main.main = main
    sys.exit(__main__.main())
