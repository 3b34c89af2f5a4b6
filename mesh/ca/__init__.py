"""The mesh's certificate authority: root, workload certificates, workload tokens (Istio's Citadel)."""
