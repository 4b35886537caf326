"""Lemmas in Coq that several formal proofs load."""
