"""The same service on Ray Serve: several copies, several GPUs, several machines. `serving.cluster` is the way in."""
