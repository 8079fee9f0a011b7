"""The built-in reference model: cartoon people who speak."""
