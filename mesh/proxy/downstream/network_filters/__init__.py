"""Network filters before the last one of a chain: each admits a connection or ends it, before any of it is served.

MUST NOT read or write a connection's bytes: that is for the chain's last filter.
"""
