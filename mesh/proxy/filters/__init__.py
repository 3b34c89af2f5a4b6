"""HTTP filters, one file each: what happens to a request between the connection manager and the router.

A filter's configuration compiles to plain functions of a stream (see `registry`); MUST NOT wait: a request that
must wait is parked.
"""
