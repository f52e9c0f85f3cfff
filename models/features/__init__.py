"""What is known of a visitor and a member, as numbers with a name and a unit: declared once, one code for learning and serving."""
