"""The error tree. Every error a user can cause says what was wrong, the rule, and what is near.

WanError
├── RequestError      a field of a request breaks a rule
│   └── MediaError    an image or clip that cannot be used
├── CheckpointError   files that are not the model they claim to be
├── OutputError       the result cannot be written
├── DeviceError       the GPU could not be had, or was taken away
└── Cancelled         the user asked to stop; nothing is wrong
"""

from __future__ import annotations

__all__ = ["Cancelled", "CheckpointError", "DeviceError", "MediaError", "OutputError", "RequestError", "WanError"]


class WanError(Exception):
    """Base of all errors that are meant for a user; the message is fit to be shown."""


class RequestError(WanError):
    """A field of a request breaks a rule.

    Args:
        field: the field's name, as in :class:`wan_core.Request`.
        value: what was given, shortened.
        rule: what the field must be.
        hint: the nearest valid value, as a sentence, or empty.
    """

    def __init__(self, field: str, value: object, rule: str, hint: str = "") -> None:
        self.field, self.value, self.rule, self.hint = field, value, rule, hint
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        super().__init__(f"{field} {shown}: {rule}" + (f"; {hint}" if hint else ""))


class MediaError(RequestError):
    """An image or clip that cannot be used."""


class CheckpointError(WanError):
    """Files that are not the model they claim to be."""


class OutputError(WanError):
    """The result cannot be written."""


class DeviceError(WanError):
    """The GPU could not be had, or was taken away."""


class Cancelled(WanError):
    """The user asked to stop."""
