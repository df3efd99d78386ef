"""One folder an integration. Each is imported only where the library that it gates is used."""
