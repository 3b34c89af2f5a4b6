"""Decode, validate, analyze and store configuration (Istio's Galley).

Turns YAML into `mesh.api` types with file, line and path on every error, and keeps them in a versioned store.
MUST NOT know of proxies, xDS or platforms.
"""
