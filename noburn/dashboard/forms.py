"""Forms: Django's own for reading and showing, the services' errors for what is wrong."""

from __future__ import annotations

from typing import Any

from django import forms

from noburn.kit.problems import Invalid


class PageForm(forms.Form):
    """A form of the dashboard. Fields say which input is meant; what is allowed, the service decides."""

    use_required_attribute = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)

    def take(self, invalid: Invalid, **names: str) -> None:
        """Shows a service's errors at their fields; `names` says which field is meant where they differ."""
        for error in invalid.errors:
            field = names.get(error.field, error.field)
            if field in self.fields:
                self.add_error(field, sentence(error.message))
            else:
                self.add_error(None, sentence(f"{error.field} {error.message}"))


def sentence(text: str) -> str:
    """Returns an error's words as a sentence: they are written to stand behind a field's name."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?')) else '.'}"
