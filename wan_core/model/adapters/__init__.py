"""Families that extend the trunk: what they add to it, and nothing that it already has."""

from wan_core.model.adapters.humo import HumoDiT
from wan_core.model.adapters.s2v import Clip, S2VDiT

__all__ = ["Clip", "HumoDiT", "S2VDiT"]
