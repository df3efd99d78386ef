"""Pages over the money path's tables, which are SQL without models: counters, epochs, ledger, resolutions."""
