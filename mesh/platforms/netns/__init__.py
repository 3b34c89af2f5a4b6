"""Pods as network namespaces of one lab: addresses of their own, apps unmodified, traffic intercepted by iptables.

Needs Linux, `ip` and `iptables`; no privileges where the kernel grants user namespaces. MUST touch nothing of the host
but the ports that the parent opens: whatever is made here is gone when the lab's last process is.
"""
