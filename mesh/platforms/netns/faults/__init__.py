"""Faults of pods' networks, laid in the hub, where neither an app nor its sidecar can reach them.

Drops and resets are the kernel's (iptables in the hub's FORWARD). Delay, jitter and bandwidth are queues that the
kernel hands to the node packet by packet (NFQUEUE): kernels without netem have that, and one way for all of them is one
to test.
"""
