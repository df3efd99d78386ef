"""What every integration stands on: admission before a call, settlement after it."""

from noburn_sdk.gate.endpoints import Asked, Endpoint
from noburn_sdk.gate.gate import Gate
from noburn_sdk.gate.held import HeldCall
from noburn_sdk.gate.settings import Settings

__all__ = ["Asked", "Endpoint", "Gate", "HeldCall", "Settings"]
