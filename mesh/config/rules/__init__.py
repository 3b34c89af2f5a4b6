"""What each kind refuses beyond its types: Istio's schema validation, and the names that Kubernetes demands.

Pure functions from a typed spec to problems. Nothing here looks at a second object.
"""
