"""HTTP: pages, the JSON API, and the gate that nginx asks."""
