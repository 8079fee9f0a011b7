"""Families that extend the trunk: what they add to it, and nothing that it already has."""

from wan_core.model.adapters.animate import AnimateDiT, MotionContext
from wan_core.model.adapters.humo import HumoDiT
from wan_core.model.adapters.s2v import S2VDiT, SpeechContext
from wan_core.model.adapters.vace import ControlContext, VaceDiT

__all__ = ["AnimateDiT", "ControlContext", "HumoDiT", "MotionContext", "S2VDiT", "SpeechContext", "VaceDiT"]
