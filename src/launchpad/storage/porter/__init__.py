"""The two processes that carry a folder into a home. Only the standard library: they run by themselves, see `moving`.

Root opens both directories and starts two processes, each of which first shuts itself into its directory (chroot) and
gives up root: the giver becomes nobody and keeps the one right to read files whoever owns them; the taker becomes the
home's user, with no rights but theirs. Then they talk over a socket. So nothing that runs as root walks either folder,
no link leads anywhere, what is written belongs to the user and counts for their quota, and neither can do more than
its half: the giver writes nowhere, the taker reads nothing but the home.

Both go down the tree with descriptors, one name at a time, and follow no link. The giver offers each entry, the taker
says whether it wants it. What has the name in the home already stays as it is.
"""
