"""The device that the engine runs on: which one, how much memory it has, and whether it still works."""

import torch

MIN_CAPABILITY = (8, 0)  # Ampere


class DeviceError(RuntimeError):
    """The device broke under the process, which has to end."""


def choose_device(name: str) -> torch.device:
    """The device for the flag's value, "auto", "cpu" or "cuda".

    Raises:
        ValueError: There is no GPU that serves; the message says what was found.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        raise ValueError(
            f"device=cuda: torch {torch.__version__} ({build}) finds no NVIDIA GPU; "
            "check the driver with nvidia-smi, or run with --device cpu"
        )
    device = torch.device("cuda", torch.cuda.current_device())
    found = torch.cuda.get_device_capability(device)
    if found < MIN_CAPABILITY:
        raise ValueError(
            f"device=cuda: {torch.cuda.get_device_name(device)} has compute capability "
            f"{found[0]}.{found[1]}; needed is {MIN_CAPABILITY[0]}.{MIN_CAPABILITY[1]} (Ampere) or newer; "
            "run with --device cpu"
        )
    return device


def check_device(device: torch.device) -> None:
    """Waits for the device.

    Raises:
        DeviceError: It does not work any more.
    """
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        raise DeviceError(f"{device} is lost: {str(error).splitlines()[0]}") from None
