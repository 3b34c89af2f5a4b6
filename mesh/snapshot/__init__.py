"""The immutable picture of configuration and services that every proxy's config is compiled from."""
