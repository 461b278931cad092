"""The small trained models that ship with Tandem."""

from pathlib import Path

MODEL_DIR: Path = Path(__file__).parent / "model"
"""The text model's checkpoint, a Hugging Face model directory."""
PICTURE_MODEL_DIR: Path = Path(__file__).parent / "pictures" / "model"
"""The picture model's checkpoint, a Hugging Face model directory."""
