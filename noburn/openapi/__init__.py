"""One OpenAPI document of everything under /v1: the management API and the data plane."""
