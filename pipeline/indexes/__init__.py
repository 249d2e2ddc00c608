"""Indexes of large collections, which follow what is stored and are never the truth (ADR 27)."""
