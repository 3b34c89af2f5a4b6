"""Distributed tracing: one span a request, its context from and to the headers, and the way to a collector.

MUST NOT decide what is traced beyond what `compile/tracing.py` was told, or cost anything where tracing is not
configured: it joins a stream as steps like those of a filter.
"""
