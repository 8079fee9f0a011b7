"""The error tree. Every error a user can cause says what was wrong, the rule, and what is near.

WanError
├── RequestError      a field of a request breaks a rule
│   ├── MediaError    an image or clip that cannot be used
│   ├── BusyError     too much is waiting already
│   └── EarlyError    not yet
├── CheckpointError   files that are not the model they claim to be
├── OutputError       the result cannot be written
├── DeviceError       the GPU could not be had, or was taken away
├── FaultError        something went wrong that nobody asked for; its own words go to the log
└── Cancelled         the user asked to stop; nothing is wrong
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BusyError", "Cancelled", "CheckpointError", "DeviceError", "EarlyError", "FaultError", "MediaError",
    "OutputError", "RequestError", "WanError",
]  # fmt: skip


class WanError(Exception):
    """Base of all errors that are meant for a user; the message is fit to be shown.

    Attributes:
        code: what kind it is, for programs.
        retry_after: seconds after which the same may work, or None where it never will.
    """

    code = "error"
    retry_after: int | None = None

    def details(self) -> dict[str, Any]:
        """The error for programs: ``code``, ``field``, ``message``, ``fix`` and ``retry_after``."""
        return {"code": self.code, "field": None, "message": str(self), "fix": "", "retry_after": self.retry_after}


class RequestError(WanError):
    """A field of a request breaks a rule.

    Args:
        field: the field's name, as in :class:`wan_core.Request`.
        value: what was given, shortened.
        rule: what the field must be.
        hint: the nearest valid value, as a sentence, or empty.
    """

    code = "request"

    def __init__(self, field: str, value: object, rule: str, hint: str = "") -> None:
        self.field, self.value, self.rule, self.hint = field, value, rule, hint
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        super().__init__(f"{field} {shown}: {rule}" + (f"; {hint}" if hint else ""))

    def details(self) -> dict[str, Any]:
        """See :meth:`WanError.details`."""
        return super().details() | {"field": self.field, "fix": self.hint}


class MediaError(RequestError):
    """An image or clip that cannot be used."""

    code = "media"


class BusyError(RequestError):
    """Too much is waiting already."""

    code = "busy"
    retry_after = 60


class EarlyError(RequestError):
    """Not yet."""

    code = "early"
    retry_after = 1


class CheckpointError(WanError):
    """Files that are not the model they claim to be."""

    code = "checkpoint"


class OutputError(WanError):
    """The result cannot be written."""

    code = "output"
    retry_after = 60


class DeviceError(WanError):
    """The GPU could not be had, or was taken away."""

    code = "device"
    retry_after = 60


class FaultError(WanError):
    """Something went wrong that nobody asked for; its own words go to the log."""

    code = "internal"
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("Something went wrong here, not with what you asked for. Please try again.")


class Cancelled(WanError):
    """The user asked to stop."""

    code = "cancelled"
