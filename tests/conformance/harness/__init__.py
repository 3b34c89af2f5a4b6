"""Plays conformance cases against a data plane and reports what differs from what a case expects.

The engine under test is a process behind sockets, so that the real Envoy and our sidecar are judged by the same eyes.
MUST NOT import anything of `mesh`: a bug shared between harness and sidecar would hide itself.
"""
