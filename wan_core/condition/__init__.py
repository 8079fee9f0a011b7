"""Inputs to ``Conditioning``: the only thing in which the modes differ."""

from wan_core.condition.base import Conditioning
from wan_core.condition.i2v import channel_image, clean_first_frame
from wan_core.condition.picture import fit, open_picture
from wan_core.condition.r2v import humo, phantom, speech, vace
from wan_core.condition.sound import Sound, open_sound
from wan_core.condition.t2v import text_only
from wan_core.condition.video import Footage, footage, played

__all__ = [
    "Conditioning",
    "Footage",
    "Sound",
    "channel_image",
    "clean_first_frame",
    "fit",
    "footage",
    "humo",
    "open_picture",
    "open_sound",
    "phantom",
    "played",
    "speech",
    "text_only",
    "vace",
]
