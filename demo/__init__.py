"""`make demo`: real LLM clients, real servers, six ways to burn money, and what noburn makes of them.

It drives noburn from outside, as a tenant would: by commands, by its HTTP interface through `noburn_sdk`, and
reads the ledger only to hold noburn to its word.
"""
