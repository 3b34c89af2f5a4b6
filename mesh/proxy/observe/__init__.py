"""What can be seen from outside: counters, access logs, traces.

MUST NOT change a request beyond trace headers.
"""
