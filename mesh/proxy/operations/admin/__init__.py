"""Envoy's admin pages: one module a page or family, over a small HTTP server of their own.

MUST NOT decide anything: pages show the sidecar's state, or pass a wish on to it.
"""
