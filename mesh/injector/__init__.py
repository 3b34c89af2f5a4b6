"""Adds the sidecar container to a pod spec (Istio's sidecar-injector)."""
