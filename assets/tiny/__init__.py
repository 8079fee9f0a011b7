"""The built-in model: its procedural world, its training, its evaluation and its weights."""
