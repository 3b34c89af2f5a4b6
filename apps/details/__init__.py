"""Bookinfo's book details."""
