"""Reads of tenancy's tables for pages: bounded, and page by page."""
