"""The HTTP API: Kubernetes' REST shape over the store, and what only a mesh has (certificates, proxies, sync).

Handlers translate; rules live in the rooms they ask. MUST NOT be imported from outside `mesh.control`.
"""
