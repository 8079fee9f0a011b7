"""Numbers only: the few operations worth writing by hand, each with a plain reference.

Import ``kernels.reference`` for the references. This folder shares its name with a PyPI
distribution that must never be installed beside it: with that distribution present, transformers
imports *this* package by mistake (see CONTRIBUTING.md; ``tests/test_house.py`` checks it is absent).
"""
