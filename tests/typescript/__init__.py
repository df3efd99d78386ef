"""The TypeScript SDK against a real noburn, and alone; run by Node, asked for by pytest."""
