"""Bookinfo's ratings v1 and its misbehaving variants."""
