"""Composition root of the control plane: one process, `python -m mesh.control`."""
