"""Which host of a cluster gets the next request: Envoy's load balancers over the hosts that may be picked.

MUST NOT do I/O, nor know what a connection is. A balancer is built when hosts, their weights or their health change,
and only picks otherwise.
"""
