"""ASGI layers in front of the engine's app: who may ask, how much, and what happens under load and failure."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.guard.stack import Guard

__all__ = ["Guard"]


def __getattr__(name: str) -> Any:
    """`serving.guard.Guard`, imported when it is asked for: the command line needs only the settings beside it."""
    if name == "Guard":
        from serving.guard.stack import Guard

        return Guard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
