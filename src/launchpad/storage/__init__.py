"""Users' homes on disk and their limits: the contract (`base`) and one module a way of keeping it."""
