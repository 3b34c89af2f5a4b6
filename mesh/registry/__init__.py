"""Services and their endpoints, whatever platform they run on (Pilot's registry adapters).

MUST NOT know of xDS.
"""
