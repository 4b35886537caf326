"""Commands that run beside a test."""

from tests.commands import Command, Ended

__all__ = ["Command", "Ended"]
