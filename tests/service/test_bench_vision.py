"""The benchmark of pictures through both services, with a tiny model on the CPU."""

import json

from tandem_bench import cli


def test_new_and_known_pictures_are_measured_through_both_services(tmp_path):
    flags = ["--device=cpu", "--shrink=32", "--repetitions=1", "--engine-flag=--kv-cache-mib=16"]
    where = [f"--out={tmp_path}/out", f"--checkpoint-dir={tmp_path}", "--commit=abc", "--name=vision"]
    assert cli.main(["vision-serve", "--shape=tiny-llava", *flags, *where]) == 0
    figures = json.loads((tmp_path / "out/vision.json").read_text())["figures"]
    found = {each["name"]: each for each in figures["measurements"]}
    kinds = ("fresh", "repeated", "repeated-other-text")
    assert list(found) == [f"vision-{part}{kind}" for part in ("", "ttft-") for kind in kinds]
    # A prompt of 16 placeholders and 2 letters; the known ones' first block is in the prefix cache.
    assert {each["details"]["num_prompt"] for each in found.values()} == {18}
    cached = [each["details"]["num_cached"] for each in found.values()]
    assert cached == [[0], [32], [32], [0], [32], [32]]
