"""HTTP filters, one file each: what happens to a request between the connection manager and the router.

A filter's configuration compiles to plain functions of an exchange (see `registry`); MUST NOT wait: a request that
must wait is parked.
"""
