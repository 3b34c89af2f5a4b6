"""Everything but the data path: start and end, configuration, workers, the control plane's client, admin pages.

The data path (downstream, http, upstream, filters) MUST NOT import it.
"""
