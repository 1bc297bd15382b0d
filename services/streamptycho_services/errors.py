"""What ends a command besides mistakes of the user."""


class FailedError(RuntimeError):
    """A process ended by itself, did not get ready, or sent nothing; exit code 1."""
