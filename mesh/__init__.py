"""Meshdrill's service mesh: control plane, sidecar, and the platforms that run pods."""
