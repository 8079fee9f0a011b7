"""Families that extend the trunk: what they add to it, and nothing that it already has."""

from wan_core.model.adapters.humo import HumoDiT
from wan_core.model.adapters.s2v import S2VDiT, SpeechContext

__all__ = ["HumoDiT", "S2VDiT", "SpeechContext"]
