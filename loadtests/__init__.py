"""Locust users, shapes and a launcher for load on any HTTP service, Bookinfo's page above all.

Locust patches the process that imports it, so it always runs as a process of its own: `run` starts one, and `plan` and
`events` are what the two processes say to each other. None of these three may import locust; nothing here judges.
"""
