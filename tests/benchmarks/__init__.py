"""Tests of the load harness. None starts a real engine."""
