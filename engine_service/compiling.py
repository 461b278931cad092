"""The kernels of all steps, compiled at the start and many at once, while weights are read."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from engine_service.allocation import empty_model, largest_prefill, steps_of
from engine_service.config import EngineConfig
from engine_service.cuda_graph import GraphedSteps
from engine_service.image_encoder import ImageEncoder
from engine_service.model_config import ModelConfig
from engine_service.models.llava import Llava
from tandem_kernels import scatter_words

log = logging.getLogger("tandem.core")


@contextlib.contextmanager
def compiling(launches: Callable[[], None] | None) -> Iterator[None]:
    """Compiles what `launches` launches on the meta device, beside the context and until its end.

    Whatever fails is a warning: what is not compiled then is when it is first launched. Without launches
    there is nothing to do.
    """
    if launches is None:
        yield
        return
    thread = threading.Thread(target=_compile, args=(launches,), daemon=True)
    thread.start()
    yield
    thread.join()


def _compile(launches: Callable[[], None]) -> None:
    start_s = time.monotonic()
    try:
        from tandem_kernels.compile_launches import compile_launches  # only here is Triton needed

        num_kernels = compile_launches(launches)
    except Exception:
        log.warning("kernels cannot be compiled ahead; the start takes longer", exc_info=True)
    else:
        log.info("compiled or found %d kernels in %.1f s", num_kernels, time.monotonic() - start_s)


def all_launches(
    config: EngineConfig, model_config: ModelConfig, num_eos_ids: int, dtype: torch.dtype, num_images: int
) -> Callable[[], None]:
    """What launches on the meta device all that steps launch on a GPU, with one layer in place of all."""
    meta, vision = torch.device("meta"), model_config.vision
    model_config = replace(model_config, num_layers=1, vision=vision and replace(vision, num_layers=1))
    model = empty_model(model_config, dtype, meta, num_images)
    steps = steps_of(model, config, model_config, num_eos_ids, dtype, meta)(0)
    graphs = GraphedSteps(steps, config.max_num_seqs, config.max_prefill_tokens, None, is_padded=True)
    images = ImageEncoder(model, meta, None) if isinstance(model, Llava) else None

    def launch() -> None:
        graphs.run_all()
        steps.prefill(largest_prefill(config))
        if images:
            images.run_all()
        words = steps.upload.words
        scatter_words(steps.table.state.view(-1), words, words)

    return launch
