"""`tillstream audience`: a seed group in; the members that are most like it out, and how much better than chance (docs/audience.md)."""
