"""Bookinfo's services. They know nothing of the mesh."""
