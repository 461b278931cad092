"""Training rows: the pixels of one picture, the ids of some exchanges about it, and what lies in each patch.

Every row has the picture first, then up to `TEXT_LENGTH` ids, so all rows have one shape.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tandem_demo.pictures.composing import make_scene
from tandem_demo.pictures.drawing import draw
from tandem_demo.pictures.exchange import Exchange
from tandem_demo.pictures.pixels import IMAGE_SIDE, SIDES, to_pixels, worn
from tandem_demo.pictures.scene import COLOURS, KINDS, Scene
from tandem_demo.pictures.tasks import GRADED_TASKS, draw_exchanges, draw_for_task
from tandem_demo.pictures.tokenizer import PAD_ID, ROLE_IDS, encode_exchanges

PATCH_SIDE = 8
PATCHES_A_SIDE = IMAGE_SIDE // PATCH_SIDE
NUM_PATCHES = PATCHES_A_SIDE**2
TEXT_LENGTH = 144
MAX_EXCHANGES = 8
_COLOUR_NAMES = list(COLOURS)
NUM_KIND_LABELS, NUM_COLOUR_LABELS = len(KINDS) + 1, len(COLOURS) + 1


@dataclass(frozen=True)
class Rows:
    """Some rows."""

    pixels: npt.NDArray[np.uint8]  # [num_rows, IMAGE_SIDE, IMAGE_SIDE, 3]
    ids: npt.NDArray[np.int16]  # [num_rows, TEXT_LENGTH]
    learnt: npt.NDArray[np.uint8]  # [num_rows, TEXT_LENGTH], 1 where the model has to write the id
    kinds: npt.NDArray[np.uint8]  # [num_rows, NUM_PATCHES], 0 for background, else 1 + index in KINDS
    colours: npt.NDArray[np.uint8]  # [num_rows, NUM_PATCHES], 0 for background, else 1 + index in COLOURS

    def __len__(self) -> int:
        return len(self.ids)


def row_shapes(num_rows: int) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """Shape and type of each of `Rows`' arrays."""
    return {
        "pixels": ((num_rows, IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8),
        "ids": ((num_rows, TEXT_LENGTH), np.int16),
        "learnt": ((num_rows, TEXT_LENGTH), np.uint8),
        "kinds": ((num_rows, NUM_PATCHES), np.uint8),
        "colours": ((num_rows, NUM_PATCHES), np.uint8),
    }


def new_rows(num_rows: int) -> Rows:
    """Rows of zeros."""
    return Rows(**{name: np.zeros(*shape) for name, shape in row_shapes(num_rows).items()})


def fill_rows(rows: Rows, tokenizer: Tokenizer, rng: Random) -> None:
    """Overwrite the rows with training rows."""
    for index in range(len(rows)):
        scene = make_scene(rng)
        exchanges = draw_exchanges(scene, rng, MAX_EXCHANGES)
        fill_row(rows, index, scene, exchanges, tokenizer, rng)


def make_held_out(tokenizer: Tokenizer, seed: int, num_questions: int) -> Rows:
    """`num_questions` rows of each graded task in order, with one exchange each."""
    rows = new_rows(num_questions * len(GRADED_TASKS))
    for index in range(len(rows)):
        task = GRADED_TASKS[index // num_questions]
        rng = held_out_rng(task, seed, index % num_questions)
        scene, exchange = draw_for_task(task, rng)
        fill_row(rows, index, scene, [exchange], tokenizer, rng)
    return rows


def held_out_rng(task: str, seed: int, index: int) -> Random:
    """What a held-out scene and its question are drawn from; training draws from other seeds."""
    return Random(f"held out {task} {seed} {index}")


def training_rng(seed: int, chunk: int) -> Random:
    """What one chunk of training rows is drawn from."""
    return Random(f"training {seed} {chunk}")


def fill_row(
    rows: Rows, index: int, scene: Scene, exchanges: list[Exchange], tokenizer: Tokenizer, rng: Random
) -> None:
    """Write one row: as many of the exchanges as fit, in order."""
    picture = worn(draw(scene, rng.choice(SIDES)), rng)
    rows.pixels[index] = to_pixels(picture)
    ids, learnt = join(encode_exchanges(tokenizer, exchanges))
    rows.ids[index], rows.learnt[index] = PAD_ID, 0
    rows.ids[index, : len(ids)] = ids
    rows.learnt[index, : len(learnt)] = learnt
    rows.kinds[index], rows.colours[index] = patch_labels(scene)


def join(encoded: list[tuple[list[int], list[bool]]]) -> tuple[list[int], list[bool]]:
    """One exchange after another, leaving out what does not fit any more."""
    ids: list[int] = []
    learnt: list[bool] = []
    for exchange_ids, exchange_learnt in encoded:
        gap = [ROLE_IDS["user"]] if ids else []
        if len(ids) + len(gap) + len(exchange_ids) <= TEXT_LENGTH:
            ids += gap + exchange_ids
            learnt += [False] * len(gap) + exchange_learnt
    return ids, learnt


def patch_labels(scene: Scene) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Kind and colour of the item around each patch's centre, both [NUM_PATCHES]."""
    kinds = np.zeros((PATCHES_A_SIDE, PATCHES_A_SIDE), dtype=np.uint8)
    colours = np.zeros_like(kinds)
    centres = (np.arange(PATCHES_A_SIDE) + 0.5) / PATCHES_A_SIDE
    for item in scene.items:
        distance = np.hypot(centres[None, :] - item.x, centres[:, None] - item.y)
        inside = distance <= item.radius
        kinds[inside] = 1 + KINDS.index(item.kind)
        colours[inside] = 1 + _COLOUR_NAMES.index(item.colour)
    return kinds.reshape(-1), colours.reshape(-1)
