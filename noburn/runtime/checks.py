"""Boot checks: what noburn needs of PostgreSQL and Redis, and what to do when it is not so."""
