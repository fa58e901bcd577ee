"""Serve the XuanYuan-6B family with vLLM: one launcher, from a laptop to a cluster."""

__version__ = "0.1.0"
