"""The command line: each verb parses, calls the library, prints. Importing it imports no torch."""

from ntmbench.cli import benching, reading, sweeping, tracing, training
from ntmbench.cli.group import main

__all__ = ["benching", "main", "reading", "sweeping", "tracing", "training"]
