"""The data plane: an Envoy-compatible sidecar in Python.

MUST NOT import anything of the control plane: xDS protobufs are their only contract.
"""
