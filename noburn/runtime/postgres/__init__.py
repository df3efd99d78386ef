"""Django's PostgreSQL, each statement of which says whose rows it may see (noburn.kit.tenancy)."""
