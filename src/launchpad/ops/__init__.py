"""What administrators run: nginx, doctor, backups and their rehearsal, releases, importing, certificates."""
