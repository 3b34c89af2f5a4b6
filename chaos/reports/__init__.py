"""A run for people (terminal, HTML) and for machines (JUnit); pure functions of its records."""
