"""Measures the sidecar beside the real Envoy on the same bootstrap files.

MUST NOT be imported by anything, and asserts nothing on time: it reports.
"""
