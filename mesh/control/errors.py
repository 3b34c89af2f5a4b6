"""What keeps the control plane from starting."""


class SetupError(Exception):
    """A problem for the person who started the process; its one line says what to do."""
