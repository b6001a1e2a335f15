"""The portal's control socket: commands that change things ask the portal, which owns the work."""
