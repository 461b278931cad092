"""The picture demo model: generators of its pictures and questions, its training and its evaluation."""

from pathlib import Path

MODEL_DIR: Path = Path(__file__).parent / "model"
"""The picture model's checkpoint, a Hugging Face model directory."""
