"""The pages people see: rendered on the server, complete without JavaScript, livelier with it."""
