"""Static files under names that hold their hash, so that a browser may keep them and never shows old ones."""

from __future__ import annotations

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage


class HashedFiles(ManifestStaticFilesStorage):
    """Names by the manifest that `collectstatic` writes; without one (tests, commands) plain names."""

    manifest_strict = False

    def stored_name(self, name: str) -> str:
        """Returns the hashed name where the manifest has one, else the name itself."""
        hashed: dict[str, str] = self.hashed_files
        return hashed.get(self.hash_key(self.clean_name(name)), name)
