"""Programs around a port."""
