"""The CUDA context, opened while torch is still being imported: both take a second or more."""

import ctypes


def open_context() -> None:
    """Opens the context of the first GPU that is visible, which torch then finds and uses.

    What fails here fails again when torch asks for the GPU, with an error that says why.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return  # there is no NVIDIA driver
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if cuda.cuInit(0) == 0 and cuda.cuDeviceGet(ctypes.byref(device), 0) == 0:
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
