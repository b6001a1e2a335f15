"""Where instances run: the contract (`base`), Docker Engine (`engine`), and a fake that ships (`fake`)."""
