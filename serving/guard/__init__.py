"""ASGI layers in front of the engine's app: who may ask, how much, and what happens under load and failure."""

from serving.guard.stack import Guard

__all__ = ["Guard"]
