"""SQL of billing that the ORM does not say well."""
