"""Pure functions from a snapshot and a proxy to Envoy v3 resources.

MUST NOT do I/O, keep state or read clocks.
"""
