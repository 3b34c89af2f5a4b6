"""The servers' side: clusters, who may be picked, pools, and the connections of each protocol.

MUST NOT know of admin pages or the control plane.
"""
