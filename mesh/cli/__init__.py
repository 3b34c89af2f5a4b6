"""The `meshdrill` command, one file a verb."""
