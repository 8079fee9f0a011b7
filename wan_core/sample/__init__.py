"""Latents over noise levels, against a ``Velocity``; nothing here knows a model."""
