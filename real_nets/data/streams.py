"""Random numbers that depend on a key alone, not on what was drawn before."""

import hashlib

import torch


def stream_seed(*key: int | str) -> int:
    """A seed of 64 bits for a key such as ("augment", seed, epoch, step).

    Other keys give unrelated seeds, keys of another length too. torch's CPU generator uses 32 of the
    bits, so among 100,000 streams one or two pairs may be equal.
    """
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big")


def stream(*key: int | str) -> torch.Generator:
    """A CPU generator seeded by the key."""
    return torch.Generator().manual_seed(stream_seed(*key))
