"""Drills: faults, probes, statistics, verdicts and reports.

Drives the mesh through `mesh.client` alone; MUST NOT import other modules of `mesh`.
"""
