"""Composition root of the control plane: one process, `python -m mesh.control` (Istio's istiod).

Brings up the store, ADS, the CA and the HTTP API, and carries changes from the store to ADS. MUST hold no rules of its
own about configuration or xDS: it asks the rooms that do.
"""
