"""Families that extend the trunk: what they add to it, and nothing that it already has."""

from wan_core.model.adapters.humo import HumoDiT
from wan_core.model.adapters.s2v import S2VDiT, SpeechContext
from wan_core.model.adapters.vace import ControlContext, VaceDiT

__all__ = ["ControlContext", "HumoDiT", "S2VDiT", "SpeechContext", "VaceDiT"]
