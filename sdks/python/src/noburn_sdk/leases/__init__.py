"""Leases: money that this process was given to spend call by call, without asking about each."""

from noburn_sdk.leases.lease import Draw, Drawn, Lease
from noburn_sdk.leases.pool import Leases

__all__ = ["Draw", "Drawn", "Lease", "Leases"]
