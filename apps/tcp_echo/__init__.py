"""Answers each line with a word of its own before it, so that one sees which version answers a connection."""
