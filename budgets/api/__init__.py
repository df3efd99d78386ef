"""The management API of budgets, usage and the ledger."""
