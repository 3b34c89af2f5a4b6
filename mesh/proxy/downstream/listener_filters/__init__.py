"""Listener filters: what looks at a new connection before its filter chain is chosen. Each is synchronous.

MUST NOT know chains or protocols above TCP; what a filter finds out it writes into the `ConnectionInfo`.
"""
