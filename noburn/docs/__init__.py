"""The documentation that every installation serves at /docs: the repository's own Markdown, and the API's document."""
