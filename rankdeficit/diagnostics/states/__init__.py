"""Streaming, mergeable statistics of samples."""
