"""Train the picture demo model from nothing and write its checkpoint.

    PYTHONPATH=demo python3 -m tandem_demo.pictures.train --out DIR --minutes 7

draws pictures in all processes but two while the model trains on one GPU. DIR then holds a Hugging Face model
directory and training_log.json. On a CPU only a smoke check is sensible:

    ... --device cpu --no-compile --minutes 2 --batch 16 --pool 4000 --slots 8 --questions 4 --processes 1

The processes that draw are forked before torch is imported.
"""

import time

from tandem_demo.pictures.generate import Generator
from tandem_demo.pictures.tokenizer import train_tokenizer
from tandem_demo.pictures.training_options import parse_options

if __name__ == "__main__":
    started = time.monotonic()
    options = parse_options()
    tokenizer = train_tokenizer(options.seed)
    generator = Generator(tokenizer, options.seed, options.processes, options.slots)

    from tandem_demo.pictures.training_run import run

    run(options, tokenizer, generator, started)
