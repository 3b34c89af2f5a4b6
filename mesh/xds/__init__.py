"""From snapshot to the wire: pure compile functions, and the ADS server that pushes what they return (Pilot)."""
