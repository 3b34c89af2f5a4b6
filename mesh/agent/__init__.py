"""In each pod beside the proxy: identity, certificates, bootstrap, and the proxy's life (Istio's pilot-agent).

MUST NOT import either plane: it speaks to the control plane over HTTPS and to the proxy through files and signals.
"""
