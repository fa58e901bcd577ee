"""The family's chat templates, and the vLLM renderer that keeps them exact and safe."""
