"""HTTP for tills, shops and apps: in front of the same topics, kernels and snapshots that the workers use. It keeps nothing of its own."""
