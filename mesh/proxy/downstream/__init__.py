"""The client's side: listeners, filter chains, and the connections of each protocol.

MUST NOT know of admin pages or the control plane.
"""
