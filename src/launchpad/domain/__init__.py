"""The pure core: values and decisions without input or output. Imports nothing of the project."""
