"""`tillstream segments`: which members are active, regular, lost, or like fish, told to the rules (docs/audience.md)."""
