"""The ADS server: who is connected, what each proxy was sent and answered, and what to send it next.

MUST NOT build Envoy resources itself (that is `mesh.xds.compile`) nor know where configuration comes from.
"""
