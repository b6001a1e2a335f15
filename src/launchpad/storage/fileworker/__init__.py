"""The process that reads and changes one user's files. Only the standard library: it runs by itself (`file_workers`).

It is given the opened home and a connection. Before it reads a single request it shuts itself into the home (chroot),
becomes the home's owner for good, without any capability, and limits what it may use. So whatever a path, a link or a
file's content makes of it, it can do no more than its owner could. Every path is resolved below the home's descriptor
(`beneath`); trees are walked with descriptors, never with paths (`tree`).

Over the connection, one request follows the other (`line`). Who closes it cancels what is under way.
"""
