"""Settlements in the background: queued, kept on disk, sent in batches, never in a caller's way."""

from noburn_sdk.settling.outbox import Outbox, default_directory
from noburn_sdk.settling.settler import Resolution, Settler

__all__ = ["Outbox", "Resolution", "Settler", "default_directory"]
