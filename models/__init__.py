"""What learns from outcomes, and says how likely the next one is."""
