"""TLS: connections, contexts, and the secrets that they are made of."""
