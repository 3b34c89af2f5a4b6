"""The mesh's certificate authority: root, workload certificates, workload tokens (Istio's Citadel).

Only `folder` touches the disk; what signs and what judges is told the time and does no I/O. MUST NOT know of HTTP,
proxies or configuration: whether a pod that a token names still exists is for the caller to ask.
"""
