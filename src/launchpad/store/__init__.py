"""What is kept: one module a table. Nothing outside this package writes SQL."""
