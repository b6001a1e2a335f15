"""The privileged helper: the only part of the platform with the engine's socket and root's rights.

It offers fixed verbs on a Unix socket and believes nothing that it is told: every argument is held against settings
that it reads itself. Whoever takes over the portal can neither mount another directory nor start another image than
the catalogue's (docs/adr/0011).
"""
