"""Typed forms of the Kubernetes and Istio resources we accept, and of our own kinds.

Pure data: no I/O, no defaults that depend on other resources.
"""
