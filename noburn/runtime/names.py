"""Names that several parts of the runtime share."""

from __future__ import annotations

DATABASE = "noburn"
OWNER, APP, GATEWAY = "noburn_owner", "noburn_app", "noburn_gateway"
# What the application becomes for work that spans tenants; nobody signs in as it.
ACROSS = "noburn_across"
# Raised when `roles` changes what it makes; an embedded PostgreSQL then gets the new set at its next start.
ROLES_VERSION = "2"
