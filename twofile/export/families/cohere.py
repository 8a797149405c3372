"""Cohere's models."""

COHERE_SCALE = lambda j: dict(logit_scale=j.get("logit_scale", 0.0625))
