"""Train the text demo model from nothing and write its checkpoint.

    PYTHONPATH=demo python3 -m tandem_demo.text.train --out DIR --minutes 8.8

makes a tokenizer, 1.8 million conversations and the model, on one GPU. DIR then holds a Hugging Face
model directory and training_log.json. On a CPU only a smoke check is sensible:

    ... --device cpu --no-compile --steps 3 --batch 2 --conversations 4000 --questions 4

Worker processes import this file too, so torch is imported by the program alone.
"""

from tandem_demo.text.training_options import parse_options

if __name__ == "__main__":
    from tandem_demo.text.training_run import run

    run(parse_options())
