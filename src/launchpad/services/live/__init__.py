"""What many ask for, known in the process and told when it changes. The database stays the truth.

Each model here subscribes to the store's feed of changes, answers without waiting while the feed is current, and reads
the store where it is not. What expires by time is decided by whoever asks, with their `now`.
"""

from .models import Live as Live
