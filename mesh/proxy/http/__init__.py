"""What HTTP means here, whatever its codec: the connection manager's stream, and the router on top of it.

MUST NOT know of admin pages or the control plane.
"""
