"""The models that the engine serves."""
