"""The version of this installation, known also where only a checkout is on the path."""

__version__ = "0.1.0"
