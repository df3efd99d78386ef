"""What a client is answered in."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request

from noburn.kit.problems import FieldError, Invalid


class Negotiation(DefaultContentNegotiation):
    """Answers in what the client accepts if it can, else in the first that it knows: a refusal helps nobody."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        """Returns a renderer and its media type."""
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable:
            return renderers[0], renderers[0].media_type
        except Http404:
            # `format` names none: a parameter that is wrong, and no address that is not there.
            known = " or ".join(sorted(renderer.format for renderer in renderers))
            raise Invalid([FieldError("format", f"must be {known}")]) from None
