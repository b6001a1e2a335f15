"""Mail that leaves: the contract (`base`), SMTP (`smtp`), and the outbox that needs no server (`outbox`)."""
