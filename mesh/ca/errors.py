"""What the certificate authority refuses. No message carries key material or a token."""


class CaError(Exception):
    """Base of all errors of this package."""


class CaFolderError(CaError):
    """The folder with the root is incomplete, unreadable, of unsafe mode, or its parts do not belong together."""


class CsrError(CaError):
    """A certificate signing request that cannot be honoured."""


class ValidityError(CaError):
    """A lifetime outside what this authority signs for."""


class TokenError(CaError):
    """A workload token that proves nothing: malformed, wrongly signed, for another audience, or expired."""
