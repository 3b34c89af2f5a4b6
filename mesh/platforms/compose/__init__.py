"""A mesh as a file for `docker compose`: the pods of the `docker` platform without a `meshdrill up`.

`write` makes the file on the host; `node` runs in one of its containers and tells the control plane of the pods. MUST
NOT need the Docker engine's library in a container.
"""
