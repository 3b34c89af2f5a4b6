"""The aggregated discovery service, client side: subscribes, judges each response as a whole, ACKs or NACKs it.

MUST NOT compile resources or serve traffic: what it receives goes to `configuration`, which asks the data plane.
"""
