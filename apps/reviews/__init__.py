"""Bookinfo's reviews v1 (no stars), v2 (black stars) and v3 (red stars)."""
