"""Active health checking: asks each host of a cluster, again and again, whether it is well (`health_checks`).

MUST NOT know of balancing: it tells a host's flags, and that they changed.
"""
