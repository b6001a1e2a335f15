"""The processes that archive homes, prove archives, and restore homes from them (docs/adr/0043).

Only the standard library, but for `compress`: each runs by itself, begins as root, is handed what it needs opened,
shuts itself in (chroot) and gives up every right but those that its role needs, before it reads a byte of a user's:

- `pack` reads a home: `nobody`, with the right to read everything in it;
- `compress` packs a stream or unpacks it, with nothing at all;
- `check` reads an archive to its end, with nothing at all;
- `unpack` fills a new folder that nobody else can reach: `nobody`, with the rights to give files away;
- `compare` reads a home beside its manifest, as `pack`;
- `erase` removes what lies in a folder that has lost its name already;
- `take` puts copies into somebody's home, as that somebody.
"""
