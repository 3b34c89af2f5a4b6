"""Where pods run: one module a platform behind one `Platform` interface."""
