"""The kernels of all steps, compiled at the start and many at once, while weights are read."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from engine_service.allocation import largest_prefill
from engine_service.config import EngineConfig
from engine_service.cuda_graph import GraphedSteps
from engine_service.image_encoder import ImageEncoder
from engine_service.model_steps import ModelSteps
from tandem_kernels import scatter_words

log = logging.getLogger("tandem.core")

# Layers that launch all that any number of them does: of the last, prefills compute less.
NUM_LAYERS = 2


@contextlib.contextmanager
def compiling(launch: Callable[[], None]) -> Iterator[None]:
    """Compiles what `launch` launches, beside the context and until its end.

    Whatever fails is a warning: what is not compiled then is when it is first launched.
    """
    thread = threading.Thread(target=_compile, args=(launch,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _compile(launch: Callable[[], None]) -> None:
    start_s = time.monotonic()
    try:
        from tandem_kernels.compile_launches import compile_launches  # only here is Triton needed

        num_kernels = compile_launches(launch)
    except Exception:
        log.warning("kernels cannot be compiled ahead; the start takes longer", exc_info=True)
    else:
        log.info("compiled or found %d kernels in %.1f s", num_kernels, time.monotonic() - start_s)


def launch_all(config: EngineConfig, steps: ModelSteps, images: ImageEncoder | None) -> None:
    """Launches each kernel that a step can launch, from whatever is in memory; NUM_LAYERS suffice."""
    GraphedSteps(steps, config.max_num_seqs, config.max_prefill_tokens, None, is_padded=True).run_all()
    for is_fresh in (False, True):
        steps.prefill(replace(largest_prefill(config), is_fresh=is_fresh))
    if images:
        images.run_all()
    words = steps.upload.words
    scatter_words(steps.table.state.view(-1), words, words)
