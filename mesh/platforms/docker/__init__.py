"""Pods as containers of a Docker engine on this machine: images as they will ship, all traffic led through the sidecar.

MUST touch nothing of the engine that does not bear this mesh's labels, and MUST NOT pull what is there already.
"""
