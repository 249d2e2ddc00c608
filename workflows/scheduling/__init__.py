"""Runs that start by themselves: schedules kept in SQL, fired by whoever leads, synced from the definitions."""

from __future__ import annotations
